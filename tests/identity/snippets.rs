//! The snippets for a portal that is there already: nginx's, run by the real nginx, and Flask's.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::python::python_with_flask;

fn kit(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/server").join(file)
}

fn snippet() -> String {
    fs::read_to_string(kit("nginx/service-connector.conf")).unwrap()
}

/// Debian has it where only root looks.
fn nginx() -> &'static str {
    let sbin = "/usr/sbin/nginx";
    if Path::new(sbin).exists() { sbin } else { "nginx" }
}

/// nginx before a portal that only writes down what it is asked.
struct Proxy {
    dir: TempDir,
    port: u16,
    child: Child,
    asked: Receiver<String>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn config(dir: &Path, port: u16, snippet: &str) -> PathBuf {
    let snippet = snippet.replace("/run/service-connector-portal", &dir.display().to_string());
    fs::write(dir.join("snippet.conf"), snippet).unwrap();
    // As careless as a host can be: underscores pass, and another location takes scripts.
    let text = format!(
        "daemon off; master_process off; pid {0}/pid; error_log {0}/errors;\n\
         events {{}}\n\
         http {{\n\
         access_log off; underscores_in_headers on; ignore_invalid_headers off;\n\
         client_body_temp_path {0}/body; proxy_temp_path {0}/proxy; fastcgi_temp_path {0}/fastcgi;\n\
         uwsgi_temp_path {0}/uwsgi; scgi_temp_path {0}/scgi;\n\
         server {{ listen 127.0.0.1:{port}; include {0}/snippet.conf;\n\
         location / {{ return 418; }}\n\
         location ~ \\.js$ {{ return 418; }}\n\
         location = /who {{ if ($http_cookie = \"\") {{ return 401; }}\n\
         add_header X-Remote-Email eva@your-domain.com; return 200; }}\n\
         }} }}\n",
        dir.display()
    );
    let path = dir.join("nginx.conf");
    fs::write(&path, text).unwrap();
    path
}

fn checked(config: &Path) {
    let output = Command::new(nginx()).arg("-t").arg("-c").arg(config).output();
    let output = output.expect("nginx is there (Debian: nginx-light)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

impl Proxy {
    fn start(snippet: impl Fn(u16) -> String) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let config = config(dir.path(), port, &snippet(port));
        checked(&config);
        let portal = UnixListener::bind(dir.path().join("portal.sock")).unwrap();
        let (tell, asked) = channel();
        thread::spawn(move || {
            for connection in portal.incoming() {
                let mut connection = connection.unwrap();
                let mut request = vec![0; 16 << 10];
                let length = connection.read(&mut request).unwrap();
                let request = String::from_utf8_lossy(&request[..length]).to_ascii_lowercase();
                if tell.send(request).is_err() {
                    return;
                }
                let answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                connection.write_all(answer.as_bytes()).unwrap();
            }
        });
        let child =
            Command::new(nginx()).arg("-c").arg(&config).stderr(Stdio::null()).spawn().unwrap();
        let proxy = Self { dir, port, child, asked };
        let begin = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            let errors = fs::read_to_string(proxy.dir.path().join("errors")).unwrap_or_default();
            assert!(begin.elapsed() < Duration::from_secs(30), "nginx does not listen: {errors}");
            thread::sleep(Duration::from_millis(20));
        }
        proxy
    }

    /// The status of the answer.
    fn get(&self, path: &str, lines: &str) -> String {
        let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap();
        connection.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nConnection: close\r\n{lines}\r\n");
        connection.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        answer.split(' ').nth(1).unwrap_or_default().to_owned()
    }

    /// What the portal was asked for this.
    fn passes(&self, path: &str, lines: &str) -> String {
        assert_eq!(self.get(path, lines), "200", "{path}");
        self.asked.recv_timeout(Duration::from_secs(30)).unwrap()
    }
}

const FORGED: &str = "Host: portal.your-domain.com:8443\r\nOrigin: https://portal.your-domain.com:8443\r\n\
    X-Remote-Email: john@your-domain.com\r\nX_Remote_Email: john@your-domain.com\r\n\
    X-Remote_Email: john@your-domain.com\r\nx_remote-email: john@your-domain.com\r\n\
    Cookie: session=x\r\n";

#[test]
fn nginx_passes_no_identity_of_a_clients_and_keeps_host_and_origin() {
    let proxy = Proxy::start(|_| snippet());
    for path in [
        "/service-connectors",
        "/service-connectors/",
        "/service-connectors/card.js",
        "/api/service-connectors",
        "/api/service-connectors/events?x=1",
    ] {
        let asked = proxy.passes(path, FORGED);
        assert!(asked.starts_with(&format!("get {path} http/1.1\r\n")), "{asked}");
        assert!(asked.contains("\r\nhost: portal.your-domain.com:8443\r\n"), "{asked}");
        assert!(asked.contains("\r\norigin: https://portal.your-domain.com:8443\r\n"), "{asked}");
        assert!(asked.contains("\r\ncookie: session=x\r\n"), "{asked}");
        assert!(!asked.contains("john") && !asked.contains("email"), "{asked}");
    }
    for path in ["/", "/service-connectors-old", "/api/service-connectors-old", "/api/", "/a.js"] {
        assert_eq!(proxy.get(path, FORGED), "418", "{path} is the dashboard's");
    }
}

#[test]
fn nginx_says_who_asks_when_the_dashboard_told_it() {
    // As the snippet's comments say.
    let proxy = Proxy::start(|port| {
        let lines = snippet();
        let lines = lines.replace("# auth_request", "auth_request");
        let (snippet, who) = lines.split_once("# location = /service-connector-who").unwrap();
        let who = who.replace("\n#", "\n").replace("127.0.0.1:5000", &format!("127.0.0.1:{port}"));
        format!("{snippet}location = /service-connector-who{who}")
    });
    let asked = proxy.passes("/api/service-connectors", FORGED);
    assert!(asked.contains("\r\nx-remote-email: eva@your-domain.com\r\n"), "{asked}");
    assert_eq!(asked.matches("email:").count(), 1, "{asked}");
    let strangers = FORGED.replace("Cookie: session=x\r\n", "");
    assert_eq!(proxy.get("/api/service-connectors", &strangers), "401");
    assert_eq!(proxy.get("/service-connector-who", FORGED), "404", "for nginx itself alone");
}

#[test]
fn the_card_is_put_into_a_flask_template() {
    let script = "
import sys
sys.path.insert(0, sys.argv[1])
import flask, flask_card
app = flask.Flask('dashboard')
flask_card.add_card(app)
with app.app_context():
    print(flask.render_template_string('<main>{{ service_connectors }}</main>'))
";
    let output = Command::new(python_with_flask())
        .args(["-B", "-c", script])
        .arg(kit("examples"))
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "<main><script type=\"module\" src=\"/service-connectors/card.js\"></script>\n\
         <service-connectors></service-connectors></main>\n"
    );
}
