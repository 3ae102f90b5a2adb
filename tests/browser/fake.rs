//! A portal that is no portal: it speaks the same HTTP, and a test says what it says.

use std::fs;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use minijinja::{Environment, Value as Model, context};
use serde_json::{Value, json};

use crate::fleet;
use crate::http::{self, Answer, Request};
use crate::world;

const BASE: &str = "/service-connectors";
const API: &str = "/api/service-connectors";
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// What it knows, and how it behaves.
pub struct World {
    pub services: Vec<Value>,
    pub laptops: Vec<Value>,
    /// Of everybody's connections, to admins.
    pub fleet: Vec<Value>,
    pub held: Value,
    pub user: Value,
    pub notice: Value,
    /// The next answers to changing calls are this: status and what is said.
    pub refusal: Option<(u16, &'static str)>,
    /// So are those to all other questions.
    pub silence: Option<(u16, &'static str)>,
    /// How long a changing call takes.
    pub delay: Duration,
    /// What a call leads to by itself: the state that follows, and after how long.
    pub then: Option<Duration>,
    /// The answer to a call has the state that follows at once.
    pub instant: bool,
    /// How often somebody asked for the card's data.
    pub asked: usize,
    /// Whether there are events; without them the card has to ask.
    pub events: bool,
    /// Each changing call: its last word and its body.
    pub calls: Vec<(String, Value)>,
    revision: u64,
    stopped: bool,
    streams: Vec<TcpStream>,
}

/// A portal that listens.
pub struct Portal {
    shared: Arc<(Mutex<World>, Condvar)>,
    address: SocketAddr,
}

impl Portal {
    /// With the three services, none connected.
    pub fn start() -> Self {
        let services = world::SERVICES.iter();
        let services =
            services.map(|(id, name, about)| world::service(id, name, about, "not_connected"));
        Self::with(services.collect())
    }

    /// With these services.
    pub fn with(services: Vec<Value>) -> Self {
        let world = World {
            services,
            laptops: vec![json!({
                "id": "0123456789abcdef", "generation": 7, "at": world::hours(-1), "current": true,
            })],
            fleet: Vec::new(),
            held: json!(null),
            user: json!({
                "id": "john", "email": "john@your-domain.com", "admin": true, "disabled": false,
            }),
            notice: json!(null),
            refusal: None,
            silence: None,
            delay: Duration::ZERO,
            then: None,
            instant: false,
            asked: 0,
            events: true,
            calls: Vec::new(),
            revision: 1,
            stopped: true,
            streams: Vec::new(),
        };
        let shared = Arc::new((Mutex::new(world), Condvar::new()));
        let mut portal = Self { shared, address: (Ipv4Addr::LOCALHOST, 0).into() };
        portal.listen();
        portal
    }

    /// The address of the standalone page.
    pub fn page(&self) -> String {
        format!("http://{}{BASE}/", self.address)
    }

    /// Listens, again on its old port if it had one.
    pub fn listen(&mut self) {
        let listener = TcpListener::bind(self.address).unwrap();
        self.address = listener.local_addr().unwrap();
        self.world().stopped = false;
        let shared = Arc::clone(&self.shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if lock(&shared).stopped {
                    return;
                }
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || serve(&shared, &stream.unwrap()));
            }
        });
    }

    /// It dies: nobody listens any more, and every connection is cut.
    pub fn die(&self) {
        let mut world = self.world();
        world.stopped = true;
        for stream in world.streams.drain(..) {
            drop(stream.shutdown(Shutdown::Both));
        }
        drop(world);
        self.shared.1.notify_all();
        drop(TcpStream::connect(self.address)); // wakes who accepts, who then sees that it is over
        while TcpStream::connect(self.address).is_ok() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What it knows, to be changed; nobody is told.
    pub fn world(&self) -> MutexGuard<'_, World> {
        lock(&self.shared)
    }

    /// Changes what it knows, and tells those who listen.
    pub fn change(&self, change: impl FnOnce(&mut World)) {
        change_and_tell(&self.shared, change);
    }

    /// Puts a service into a state.
    pub fn enter(&self, id: &str, state: &str) {
        self.change(|world| world::enter(world.service(id), state));
    }

    /// The changing calls that came, and forgets them.
    pub fn calls(&self) -> Vec<(String, Value)> {
        std::mem::take(&mut self.world().calls)
    }
}

impl Drop for Portal {
    fn drop(&mut self) {
        if !self.world().stopped {
            self.die();
        }
    }
}

impl World {
    /// One of its services.
    pub fn service(&mut self, id: &str) -> &mut Value {
        self.services.iter_mut().find(|service| service["id"] == id).unwrap()
    }

    fn card(&self) -> Value {
        json!({
            "version": 1, "user": self.user, "revision": self.revision(),
            "at": jiff::Timestamp::now().to_string(), "page": BASE, "notice": self.notice,
            "generation": 7, "laptops": self.laptops, "services": self.services,
        })
    }

    fn revision(&self) -> String {
        format!("{:064x}", self.revision)
    }
}

/// A test that failed while it held this still has to end its portal and its browser.
fn lock(shared: &(Mutex<World>, Condvar)) -> MutexGuard<'_, World> {
    shared.0.lock().unwrap_or_else(PoisonError::into_inner)
}

fn change_and_tell(shared: &(Mutex<World>, Condvar), change: impl FnOnce(&mut World)) {
    let mut world = lock(shared);
    change(&mut world);
    world.revision += 1;
    drop(world);
    shared.1.notify_all();
}

fn serve(shared: &Arc<(Mutex<World>, Condvar)>, stream: &TcpStream) {
    let Some(request) = http::read(stream) else { return };
    if request.path == format!("{API}/events") && lock(shared).events {
        return drop(events(shared, stream));
    }
    answer(shared, &request).write(stream);
}

fn events(shared: &(Mutex<World>, Condvar), stream: &TcpStream) -> std::io::Result<()> {
    let mut world = lock(shared);
    if let Some((status, said)) = world.silence {
        problem(status, said).write(stream);
        return Ok(());
    }
    world.streams.push(stream.try_clone()?);
    http::begin_events(stream)?;
    let mut told = 0;
    while !world.stopped {
        if told != world.revision {
            told = world.revision;
            http::event(stream, "card", &world.card().to_string())?;
        }
        let wait = shared.1.wait_timeout(world, Duration::from_secs(1));
        world = wait.unwrap_or_else(PoisonError::into_inner).0;
    }
    Ok(())
}

fn answer(shared: &Arc<(Mutex<World>, Condvar)>, request: &Request) -> Answer {
    if let Some(rest) = request.path.strip_prefix(API) {
        return api(shared, request, rest.trim_start_matches('/'));
    }
    let name = request.path.strip_prefix(BASE).unwrap_or_default().trim_start_matches('/');
    match name {
        "" => page("page.html"),
        "fleet" => page("fleet.html"),
        "as/" => page("chooser.html"),
        "unknown" => page("unknown.html"),
        "unauthenticated" => page("unauthenticated.html"),
        _ => asset(name),
    }
}

fn api(shared: &Arc<(Mutex<World>, Condvar)>, request: &Request, name: &str) -> Answer {
    if request.method == "POST" {
        return call(shared, name, &serde_json::from_slice(&request.body).unwrap());
    }
    let mut world = lock(shared);
    if let Some((status, said)) = world.silence {
        return problem(status, said);
    }
    match name {
        "" => {
            world.asked += 1;
            json_answer(200, &world.card())
        }
        "fleet" => json_answer(200, &fleet::answer(&world, &request.query)),
        "plan" => json_answer(200, &fleet::plan()),
        _ => problem(404, "There is nothing here."),
    }
}

/// A changing call: noted, perhaps refused, else the state that it leads to, and what follows.
fn call(shared: &Arc<(Mutex<World>, Condvar)>, name: &str, body: &Value) -> Answer {
    let (delay, refusal) = {
        let mut world = lock(shared);
        world.calls.push((name.to_owned(), body.clone()));
        (world.delay, world.refusal)
    };
    std::thread::sleep(delay);
    if let Some((status, said)) = refusal {
        return problem(status, said);
    }
    let Some(id) = body["service_id"].as_str().map(str::to_owned) else {
        return json_answer(
            202,
            &json!({ "ok": true, "message": format!("Done: {name}."), "revision": "" }),
        );
    };
    let (now, next) = match name {
        "disconnect" => ("disconnecting", "not_connected"),
        "rotate" if body["leaked"] == false => ("renewing", "connected"),
        _ => ("connecting", "connected"),
    };
    let now = if lock(shared).instant { next } else { now };
    change_and_tell(shared, |world| world::enter(world.service(&id), now));
    let mut world = lock(shared);
    if let Some(after) = world.then {
        let (shared, id) = (Arc::clone(shared), id.clone());
        std::thread::spawn(move || {
            std::thread::sleep(after);
            change_and_tell(&shared, |world| {
                world::enter(world.service(&id), next);
                world.service(&id)["laptops"] = json!(0); // no laptop has synced since
            });
        });
    }
    let service = world.service(&id).clone();
    let revision = world.revision();
    json_answer(
        202,
        &json!({
            "ok": true, "message": "", "state": now, "changed": true, "revision": revision,
            "service": service,
        }),
    )
}

fn json_answer(status: u16, body: &Value) -> Answer {
    Answer { status, ..Answer::ok("application/json", body.to_string()) }
}

fn problem(status: u16, said: &str) -> Answer {
    let body = json!({
        "type": "about:blank", "title": "Trouble", "status": status, "detail": said, "error": said,
    });
    let headers = if status == 429 { vec![("Retry-After", "2".to_owned())] } else { Vec::new() };
    Answer { status, headers, ..Answer::ok("application/problem+json", body.to_string()) }
}

fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A page, as the server renders it.
fn page(name: &str) -> Answer {
    let text = fs::read_to_string(source("src/web/assets").join(name)).unwrap();
    let mut templates = Environment::new();
    templates.add_template_owned(name.to_owned(), text).unwrap();
    let person = |user: &str, email: &str, admin: bool| context! { user, email, admin };
    let people: Vec<Model> = vec![
        person("john", "john@your-domain.com", true),
        person("petr", "petr.novak@your-domain.com", false),
        person("eva", "eva@your-domain.com", false),
    ];
    let model = context! {
        base => BASE, api => API, email => "john@your-domain.com", admin => true, demo => true,
        people, whom_to_ask => "Write to data-platform@your-domain.com.",
    };
    let html = templates.get_template(name).unwrap().render(model).unwrap();
    let headers = vec![("Content-Security-Policy", POLICY.to_owned())];
    Answer { headers, ..Answer::ok("text/html; charset=utf-8", html) }
}

fn asset(name: &str) -> Answer {
    let (path, kind) = match name.rsplit_once('.') {
        Some((_, "js")) => (source("src/web/assets").join(name), "text/javascript"),
        Some((_, "css")) => (source("src/web/assets").join(name), "text/css"),
        Some((_, "svg")) => {
            (source("registry").join(name.trim_start_matches("icons/")), "image/svg+xml")
        }
        _ => return problem(404, "There is nothing here."),
    };
    fs::read(path)
        .map_or_else(|_| problem(404, "There is nothing here."), |body| Answer::ok(kind, body))
}
