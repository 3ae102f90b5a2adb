//! What is interrupted, and what must be so afterwards wherever it was.

use service_connector::example_service::{Fault, On};

pub const CONNECT: &[&str] = &["connect", "john", "purchase_orders"];
pub const DISCONNECT: &[&str] = &["disconnect", "john", "purchase_orders"];
pub const ROTATE: &[&str] = &["rotate", "john", "purchase_orders"];
pub const LEAKED: &[&str] = &["rotate", "john", "purchase_orders", "--leaked"];
pub const RECONCILE: &[&str] = &["reconcile"];

/// One command that is killed at each of its calls.
pub struct Story {
    pub name: &'static str,
    pub grace_days: u32,
    /// Brings the world to the instant before the command.
    pub before: &'static [&'static [&'static str]],
    /// The command.
    pub killed: &'static [&'static str],
    /// How many tokens of john's are live in the end.
    pub live: usize,
    /// Whether the key that john had before works in the end.
    pub old_key_works: bool,
    /// Whether the key in john's home works at every moment.
    pub never_without: bool,
    /// What the service does wrong, once.
    pub fault: Option<(On, Fault)>,
}

impl Story {
    /// Whether it edits the desired state; a pass carries out.
    pub fn is_edit(&self) -> bool {
        self.killed != RECONCILE
    }

    /// Whether john is connected in the end.
    pub fn connects(&self) -> bool {
        self.live > 0
    }
}

/// john has a key, and nothing is to be done.
const CONNECTED: &[&[&str]] = &[CONNECT, RECONCILE];

const PLAIN: Story = Story {
    name: "",
    grace_days: 7,
    before: &[],
    killed: RECONCILE,
    live: 1,
    old_key_works: false,
    never_without: false,
    fault: None,
};

pub const EDIT_CONNECT: Story = Story { name: "connect (the edit)", killed: CONNECT, ..PLAIN };

pub const EDIT_ROTATE: Story = Story {
    name: "rotate (the edit)",
    before: CONNECTED,
    killed: ROTATE,
    live: 2,
    old_key_works: true,
    never_without: true,
    ..PLAIN
};

pub const EDIT_DISCONNECT: Story = Story {
    name: "disconnect (the edit)",
    before: CONNECTED,
    killed: DISCONNECT,
    live: 0,
    never_without: true,
    ..PLAIN
};

pub const FIRST_PASS: Story = Story { name: "the very first pass", before: &[CONNECT], ..PLAIN };

pub const PASS_CONNECT: Story =
    Story { name: "a pass that connects", before: &[RECONCILE, CONNECT], ..PLAIN };

pub const PASS_ROTATE: Story = Story {
    name: "a pass that rotates",
    before: &[CONNECT, RECONCILE, ROTATE],
    live: 2,
    old_key_works: true,
    never_without: true,
    ..PLAIN
};

pub const PASS_ROTATE_WITHOUT_GRACE: Story = Story {
    name: "a pass that rotates without a grace",
    grace_days: 0,
    live: 1,
    old_key_works: false,
    ..PASS_ROTATE
};

pub const PASS_LEAKED: Story = Story {
    name: "a pass that replaces a leaked key",
    before: &[CONNECT, RECONCILE, LEAKED],
    ..PLAIN
};

pub const PASS_DISCONNECT: Story = Story {
    name: "a pass that disconnects",
    before: &[CONNECT, RECONCILE, DISCONNECT],
    live: 0,
    ..PLAIN
};

pub const LOST_EXCHANGE: Story = Story {
    name: "a pass that connects, and loses the answer",
    fault: Some((On::Exchange, Fault::DropAnswer)),
    ..PASS_CONNECT
};

pub const LOST_EXCHANGE_OF_ROTATION: Story = Story {
    name: "a pass that rotates without a grace, and loses the answer",
    fault: Some((On::Exchange, Fault::DropAnswer)),
    ..PASS_ROTATE_WITHOUT_GRACE
};

pub const LOST_REVOKE: Story = Story {
    name: "a pass that disconnects, and loses the answer",
    fault: Some((On::Revoke, Fault::DropAnswer)),
    ..PASS_DISCONNECT
};
