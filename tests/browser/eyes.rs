//! What a person sees of the card or the fleet, and does there with mouse and keys.

use fantoccini::actions::{InputSource as _, KeyAction, KeyActions};
use fantoccini::key::Key;
use serde_json::{Value, json};

use crate::chrome::Chrome;

/// What the scripts share: the component's inside, and the buttons that can be pressed now.
const INSIDE: &str = "
    const root = document.querySelector('service-connectors, service-connectors-fleet')?.shadowRoot;
    const card = (id) => root?.querySelector(`[data-service='${id}']`);
    const name = (el) => el.ariaLabel || el.textContent.trim();
    const seen = (el) => el.checkVisibility();
    const top = root?.querySelector('dialog[open]') ?? root;
    const buttons = () => [...(top?.querySelectorAll('button, a') ?? [])].filter(seen);
    const text = (el) => el?.innerText.replace(/\\s+/g, ' ').trim() ?? null;
";

fn script(rest: &str) -> String {
    format!("{INSIDE}{rest}")
}

impl Chrome {
    /// Waits until the badge of a service says so.
    pub async fn badge(&self, id: &str, wanted: &str) {
        let script = script("return text(card(arguments[0])?.querySelector('.badge'));");
        self.until(&format!("badge of {id}"), &script, vec![json!(id)], &json!(wanted)).await;
    }

    /// Waits until a service's card says this somewhere.
    pub async fn reads(&self, id: &str, wanted: &str) {
        let script = script(
            "return text(card(arguments[0]))?.includes(arguments[1]) || text(card(arguments[0]));",
        );
        let args = vec![json!(id), json!(wanted)];
        self.until(&format!("{wanted:?} on the card of {id}"), &script, args, &json!(true)).await;
    }

    /// Waits until the component says this somewhere.
    pub async fn reads_anywhere(&self, wanted: &str) {
        let script = script(
            "const all = text(root?.querySelector('section, div[lang]'));
             const whole = root ? [...root.children].map(text).join(' ') : null;
             return whole?.includes(arguments[0]) || all;",
        );
        self.until(&format!("{wanted:?} somewhere"), &script, vec![json!(wanted)], &json!(true))
            .await;
    }

    /// Waits until this was said to a screen reader.
    pub async fn hears(&self, wanted: &str) {
        let script = script(
            "const said = [...root.querySelectorAll('[aria-live=polite]')].map((el) => el.textContent).join(' | ');
             return said.includes(arguments[0]) || said;",
        );
        self.until(&format!("{wanted:?} is said"), &script, vec![json!(wanted)], &json!(true))
            .await;
    }

    /// All of a service's card, as it is read now.
    pub async fn card(&self, id: &str) -> String {
        let text = self.run(&script("return text(card(arguments[0]));"), vec![json!(id)]).await;
        text.as_str().unwrap_or_default().to_owned()
    }

    /// How high a service's card is.
    pub async fn height(&self, id: &str) -> f64 {
        let script = script("return card(arguments[0]).getBoundingClientRect().height;");
        self.run(&script, vec![json!(id)]).await.as_f64().unwrap()
    }

    /// The names of the buttons of a service that can be pressed now.
    pub async fn offers(&self, id: &str) -> Vec<String> {
        let script = script(
            "return [...card(arguments[0]).querySelectorAll('button')]
               .filter((el) => seen(el) && el.ariaDisabled !== 'true').map(name);",
        );
        serde_json::from_value(self.run(&script, vec![json!(id)]).await).unwrap()
    }

    /// Presses what has this name, once it is there and can be pressed.
    pub async fn press(&self, wanted: &str) {
        let there = script(
            "return buttons().some((el) => name(el) === arguments[0] && el.ariaDisabled !== 'true')
               || buttons().map(name);",
        );
        self.until(&format!("button {wanted:?}"), &there, vec![json!(wanted)], &json!(true)).await;
        let find = script("return buttons().find((el) => name(el) === arguments[0]);");
        self.element(&find, vec![json!(wanted)]).await.unwrap().click().await.unwrap();
    }

    /// The text of the dialog that is open; empty: none.
    pub async fn dialog(&self) -> String {
        let script = script("return text(root.querySelector('dialog[open]')) ?? '';");
        self.run(&script, Vec::new()).await.as_str().unwrap().to_owned()
    }

    /// The name of what has the focus, inside the component too.
    pub async fn focus(&self) -> String {
        let script = script(
            "let el = document.activeElement;
             while (el?.shadowRoot?.activeElement) el = el.shadowRoot.activeElement;
             return name(el);",
        );
        self.run(&script, Vec::new()).await.as_str().unwrap().to_owned()
    }

    /// Presses a key, where the focus is.
    pub async fn key(&self, key: Key) {
        let value: char = key.into();
        let keys = KeyActions::new("keys".to_owned())
            .then(KeyAction::Down { value })
            .then(KeyAction::Up { value });
        self.client.perform_actions(keys).await.unwrap();
    }

    /// Types, where the focus is.
    pub async fn types(&self, text: &str) {
        let mut keys = KeyActions::new("keys".to_owned());
        for value in text.chars() {
            keys = keys.then(KeyAction::Down { value }).then(KeyAction::Up { value });
        }
        self.client.perform_actions(keys).await.unwrap();
    }

    /// Goes on with the Tab key until this has the focus.
    pub async fn tab_to(&self, wanted: &str) {
        let mut passed = Vec::new();
        while passed.len() < 60 {
            let focus = self.focus().await;
            if focus == wanted {
                return;
            }
            passed.push(focus);
            self.key(Key::Tab).await;
        }
        panic!("no way to {wanted:?} with the keyboard, only to {passed:?}");
    }

    /// What a script finds inside the component.
    pub async fn inside(&self, rest: &str, args: Vec<Value>) -> Value {
        self.run(&script(rest), args).await
    }
}
