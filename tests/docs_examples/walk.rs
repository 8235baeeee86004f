//! The walk of `docs/scaling.md` is walked as it stands: two nodes behind nginx on one PostgreSQL, a key replaced under them,
//! a node frozen and woken.
//!
//! What is the machine's own, its PostgreSQL, its nginx and its ports, is replaced by the test's.
//!
//! Never: a replacement that does not find what it replaces; a process left behind, wherever the walk ended.

use std::{
    fs,
    net::TcpListener,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use super::{Block, blocks};
use crate::support::binary::{Place, program};

/// What every walker's shell does first: nginx with the configuration of this folder is what `service` would reload.
const PROLOGUE: &str = r#"
set -eu
reload_nginx() {
    if [ -s "$HERE/nginx.pid" ]; then
        kill -HUP "$(cat "$HERE/nginx.pid")"
    else
        nginx -c "$HERE/nginx.conf" -e "$HERE/nginx-error.log"
    fi
}
"#;

/// The shell with all that it started, and the nginx beside it. Killed when dropped.
struct Walker {
    shell: Child,
    nginx: PathBuf,
}

impl Drop for Walker {
    fn drop(&mut self) {
        let end = |signal: &str, target: &str| {
            let _ = Command::new("kill")
                .args([signal, "--", target])
                .stderr(Stdio::null())
                .status();
        };
        end("-KILL", &format!("-{}", self.shell.id()));
        let _ = self.shell.wait();
        if let Ok(pid) = fs::read_to_string(&self.nginx) {
            let pid = pid.trim();
            end("-TERM", pid);
            while Path::new("/proc").join(pid).exists() {
                std::thread::yield_now();
            }
        }
    }
}

fn free_port() -> u16 {
    let probe = TcpListener::bind("127.0.0.1:0").expect("a free port");
    probe.local_addr().expect("an address").port()
}

/// An nginx that reads the walk's file where Debian's would read it.
fn nginx_conf(here: &str) -> String {
    let user = match rustix::process::geteuid().is_root() {
        true => "user root;",
        false => "",
    };
    format!(
        "{user} worker_processes 1; pid {here}/nginx.pid; error_log {here}/nginx-error.log;\n\
         events {{ worker_connections 64; }}\n\
         http {{\n\
           client_body_temp_path {here}/t1; proxy_temp_path {here}/t2; fastcgi_temp_path {here}/t3;\n\
           uwsgi_temp_path {here}/t4; scgi_temp_path {here}/t5;\n\
           include {here}/site*.conf;\n\
         }}\n"
    )
}

/// The walk's commands, each block after a line that names it.
fn script(blocks: &[Block], replaced: &[(&str, String)]) -> String {
    let mut script = PROLOGUE.to_owned();
    for (number, block) in blocks.iter().enumerate() {
        script.push_str(&format!("echo; echo 'block {number}'\n"));
        for line in block.text.lines() {
            script.push_str(line.strip_prefix("$ ").unwrap_or(line));
            script.push('\n');
        }
    }
    for (own, ours) in replaced {
        assert!(script.contains(own), "the walk has no {own} any more");
        script = script.replace(own, ours);
    }
    script
}

#[tokio::test(flavor = "multi_thread")]
async fn the_walk_from_nothing_to_two_nodes_behind_nginx_ends_as_the_page_says() {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/scaling.md");
    let mut walk = blocks(&document);
    walk.retain(|block| block.language == "console");
    assert_eq!(walk.len(), 10, "the steps of the walk");

    let place = Place::on_postgres().await;
    let here = place.path().to_str().expect("plain").to_owned();
    fs::write(place.path().join("nginx.conf"), nginx_conf(&here)).expect("writes");
    let mut replaced = vec![
        (
            "apt-get install --yes --no-install-recommends postgresql nginx curl",
            ":".to_owned(),
        ),
        (
            "su - postgres -c 'psql -v ON_ERROR_STOP=1'",
            "cat > role.sql".to_owned(),
        ),
        (
            "postgres://truckradar:$(cat database-password)@127.0.0.1/truckradar",
            place.database(),
        ),
        (
            "/etc/nginx/conf.d/truckradar.conf",
            format!("{here}/site.conf"),
        ),
        (
            "/var/log/nginx/truckradar.log",
            format!("{here}/nginx-access.log"),
        ),
        ("nginx -t\n", format!("nginx -t -c {here}/nginx.conf\n")),
        ("service nginx reload", "reload_nginx".to_owned()),
        (
            "su - postgres -c 'dropdb truckradar && dropuser truckradar'",
            ":".to_owned(),
        ),
    ];
    for port in ["8080", "8081", "8082", "9091", "9092"] {
        replaced.push((port, free_port().to_string()));
    }

    let folder_of_program = Path::new(program()).parent().expect("a folder");
    let path = std::env::var("PATH").expect("a PATH");
    let path = format!("{}:{path}:/usr/sbin", folder_of_program.display());
    let (out, err) = (place.path().join("out"), place.path().join("err"));
    let shell = Command::new("bash")
        .args(["-c", &script(&walk, &replaced)])
        .env("HERE", &here)
        .env("PATH", path)
        .env("NO_PROXY", "127.0.0.1")
        .current_dir(place.path())
        .stdin(Stdio::null())
        .stdout(fs::File::create(&out).expect("a file"))
        .stderr(fs::File::create(&err).expect("a file"))
        .process_group(0)
        .spawn();
    let mut walker = Walker {
        shell: shell.expect("bash runs"),
        nginx: place.path().join("nginx.pid"),
    };
    let status = walker.shell.wait().expect("ends");
    let said = fs::read_to_string(&out).expect("is there");
    let complaints = fs::read_to_string(&err).expect("is there");
    assert!(status.success(), "{status}\n{said}\n{complaints}");

    for (number, block) in walk.iter().enumerate() {
        let Some(expected) = &block.expected else {
            continue;
        };
        let of_block = said.split("\nblock ").nth(number + 1).expect("it ran");
        let statuses: Vec<&str> = of_block.split_whitespace().skip(1).collect();
        let expected: Vec<&str> = expected.split(' ').collect();
        let agree = statuses.len() == expected.len()
            && std::iter::zip(&expected, &statuses)
                .all(|(of, is)| of.split('/').any(|one| one == *is));
        assert!(
            agree,
            "{}: {expected:?}, and it was {statuses:?}",
            block.place
        );
    }
    assert!(
        complaints.contains("Waiting for the node b, which does not answer"),
        "{complaints}"
    );
    // Requests did go through the proxy, and to both nodes.
    let passed = fs::read_to_string(place.path().join("nginx-access.log")).expect("a log");
    assert!(passed.lines().count() >= 5, "{passed}");
    assert!(passed.contains("\"GET /api/v1/key\" 401"), "{passed}");
}
