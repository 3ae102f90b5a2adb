//! The pages around the card, and how heavy it is.

use std::fs;
use std::path::Path;

use crate::chrome::Chrome;
use crate::fake::Portal;

#[test]
fn the_card_is_under_30_kb() {
    let card = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/web/assets/card.js");
    assert!(fs::metadata(card).unwrap().len() < 30_000);
}

#[tokio::test]
async fn the_page_says_who_is_there_and_leads_on() {
    let portal = Portal::start();
    let chrome = Chrome::start().await;
    chrome.open(&portal.page()).await;
    let header = chrome.run("return document.querySelector('header').innerText;", Vec::new()).await;
    let header = header.as_str().unwrap();
    for word in ["john@your-domain.com", "Fleet", "Switch person"] {
        assert!(header.contains(word), "{word}: {header}");
    }
}

#[tokio::test]
async fn a_chosen_theme_is_kept() {
    let portal = Portal::start();
    let chrome = Chrome::start().await;
    chrome.open(&portal.page()).await;
    let paper = "return getComputedStyle(document.body).backgroundColor;";
    let light = chrome.run(paper, Vec::new()).await;
    let press = "document.getElementById('theme').click(); return document.getElementById('theme').ariaLabel;";
    assert_eq!(chrome.run(press, Vec::new()).await, "Theme: light");
    assert_eq!(chrome.run(press, Vec::new()).await, "Theme: dark");
    chrome.client.refresh().await.unwrap();
    assert_ne!(chrome.run(paper, Vec::new()).await, light);
}

#[tokio::test]
async fn the_pages_for_strangers_say_what_to_do() {
    let portal = Portal::start();
    let chrome = Chrome::start().await;
    for (page, words) in [
        ("unknown", "Write to data-platform@your-domain.com."),
        ("unknown", "john@your-domain.com"),
        ("unauthenticated", "Sign in to your portal"),
        ("as/", "petr.novak@your-domain.com"),
    ] {
        chrome.open(&format!("{}{page}", portal.page())).await;
        let text = chrome.run("return document.body.innerText;", Vec::new()).await;
        assert!(text.as_str().unwrap().contains(words), "{page}: {text}");
    }
}

#[tokio::test]
async fn the_card_takes_the_looks_of_the_page_it_is_in() {
    let portal = Portal::start();
    portal.enter("crm", "connected");
    let chrome = Chrome::start().await;
    chrome.open(&portal.page()).await;
    chrome.badge("crm", "Connected").await;
    let paper = "return getComputedStyle(card('crm')).backgroundColor;";
    chrome.inside("root.host.style.setProperty('--sc-surface', 'rgb(1, 2, 3)');", Vec::new()).await;
    assert_eq!(chrome.inside(paper, Vec::new()).await, "rgb(1, 2, 3)");
    chrome.inside("root.host.style.removeProperty('--sc-surface'); document.documentElement.style.removeProperty('--sc-surface');", Vec::new()).await;
    chrome
        .inside(
            "root.host.setAttribute('theme', 'dark'); root.host.setAttribute('heading', 'Keys');",
            Vec::new(),
        )
        .await;
    assert_eq!(
        chrome.inside("return getComputedStyle(root.host).colorScheme;", Vec::new()).await,
        "dark"
    );
    chrome.reads_anywhere("Keys").await;
}

#[tokio::test]
async fn the_card_fits_wherever_it_is_put() {
    let portal = Portal::with(crate::world::one_of_each());
    let chrome = Chrome::start().await;
    chrome.open(&portal.page()).await;
    chrome.badge("crm", "Connected").await;
    chrome.look(1700, false).await;
    for (width, columns) in [(280, 1), (360, 1), (620, 2), (960, 3), (1280, 4), (1600, 5)] {
        let set = format!(
            "root.host.style.width = '{width}px'; const grid = root.querySelector('.grid');
             return [getComputedStyle(grid).gridTemplateColumns.split(' ').length,
                     [...root.querySelectorAll('.card *')].filter((el) => el.scrollWidth > el.clientWidth + 1
                       && getComputedStyle(el).display !== 'inline').map((el) => el.className)];"
        );
        let found = chrome.inside(&set, Vec::new()).await;
        assert_eq!(found[0], columns, "at {width}");
        assert_eq!(found[1], serde_json::json!([]), "nothing is wider than its place at {width}");
    }
}
