//! The doors of the daemon: the Unix socket, TLS, certificates and tokens, and contexts of the command line.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

#[path = "../../tls/tests/certificates.rs"]
mod certificates;
#[path = "common/daemon.rs"]
mod daemon;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use certificates::{Alternative, Identity};
use culvert::access::Tls;
use culvert::config::TlsConfig;
use serde_json::Value;

/// A daemon with `[grpc]` settings of its own.
struct Daemon {
    child: Child,
    /// Address of TCP, if it has one.
    address: String,
    home: PathBuf,
    socket: PathBuf,
}

struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Daemon {
    fn start(directory: &Path, grpc: &str) -> Self {
        let config = directory.join("culvertd.toml");
        let state = directory.join("state");
        let text = format!(
            "state_dir = {state:?}\n[ike]\nlisten = [\"127.0.0.1\"]\nport = 0\nnatt_port = 0\n[log]\nformat = \"json\"\n{grpc}"
        );
        std::fs::write(&config, text).unwrap();
        let (child, log, ready) = daemon::launch(daemon::culvertd(), &config);
        // Nobody reads on, and a full pipe would stop it.
        std::thread::spawn(move || log.for_each(drop));
        let text = |field: &str| ready[field].as_str().unwrap_or_default().to_owned();
        let home = directory.join("home");
        Self { child, address: text("grpc"), home, socket: text("socket").into() }
    }

    fn port(&self) -> &str {
        self.address.rsplit(':').next().unwrap()
    }

    /// The command line as somebody else's, with a home of its own.
    fn said(&self, arguments: &[&str], typed: &str) -> Said {
        self.said_in(&[], arguments, typed)
    }

    /// With these variables.
    fn said_in(&self, variables: &[(&str, &str)], arguments: &[&str], typed: &str) -> Said {
        let mut command = Command::new(env!("CARGO_BIN_EXE_culvert"));
        command.env("HOME", &self.home).env_remove("CULVERT_SERVER").env_remove("CULVERT_TOKEN");
        command.env_remove("CULVERT_CONTEXT").envs(variables.iter().copied());
        command.env_remove("XDG_CONFIG_HOME").env_remove("XDG_STATE_HOME").env_remove("STATE_DIRECTORY");
        let child =
            command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = child.spawn().unwrap();
        child.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        Said {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn local(&self, arguments: &[&str]) -> Said {
        let server = format!("unix:{}", self.socket.display());
        self.said(&[&["--server", server.as_str()], arguments].concat(), "")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It has ended by itself where the test wanted that.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_socket_is_the_way_in_without_any_setting() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(directory.path(), "");
    assert_eq!(daemon.address, "", "no TCP");
    assert_eq!(daemon.socket, directory.path().join("state/culvertd.sock"));
    let said = daemon.local(&["whoami", "-o", "json"]);
    let me: Value = serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("{}", said.err));
    let own = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap());
    assert_eq!(
        (me["principal"].as_str(), me["role"].as_str()),
        (Some(format!("user {own}").as_str()), Some("ADMIN"))
    );
    assert_eq!(me["from"], "local");
    // One that was killed leaves its socket, which the next one takes over; one that runs keeps it.
    drop(daemon);
    assert!(directory.path().join("state/culvertd.sock").exists());
    let daemon = Daemon::start(directory.path(), "");
    assert_eq!(daemon.local(&["get", "tenants"]).code, 0);
}

#[test]
fn an_empty_variable_is_as_good_as_none() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(directory.path(), "");
    let mut command = Command::new(env!("CARGO_BIN_EXE_culvert"));
    command.env("HOME", &daemon.home).env_remove("XDG_CONFIG_HOME").env_remove("XDG_STATE_HOME");
    command.env("STATE_DIRECTORY", daemon.socket.parent().unwrap());
    for variable in ["CULVERT_SERVER", "CULVERT_CONTEXT", "CULVERT_TOKEN", "CULVERT_CA"] {
        command.env(variable, "");
    }
    let output = command.arg("whoami").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn tokens_are_made_once_used_and_revoked() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(directory.path(), "[grpc]\nlisten = \"127.0.0.1:0\"\nanonymous = \"none\"\n");
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/acme.yaml");
    assert_eq!(daemon.local(&["apply", "-f", manifest.to_str().unwrap()]).code, 0);
    let made = daemon.local(&["create", "token", "acme/ci", "--role", "operator", "--ttl", "1h"]);
    assert!(made.code == 0 && made.err.contains("tenants/acme/tokens/ci created: operator"), "{}", made.err);
    let value = made.out.trim().to_owned();
    assert!(value.starts_with("cvt_") && !made.err.contains(&value));

    let nobody = daemon.said(&["--server", &daemon.address, "get", "peers"], "");
    assert_eq!(nobody.code, 8, "{}", nobody.err);
    assert!(nobody.err.contains("culvert login"), "{}", nobody.err);
    let url = format!("http://{}", daemon.address);
    let wrong = daemon.said(&["login", &url, "--token-file", "-"], "cvt_wrong\n");
    assert!(wrong.code == 8 && wrong.err.contains("unknown or was revoked"), "{}", wrong.err);
    assert_eq!(daemon.said(&["context"], "").out.lines().count(), 1, "what failed is not kept");
    let login = daemon.said(&["login", &url, "--token-file", "-", "--name", "acme"], &value);
    assert_eq!((login.code, login.err.as_str()), (0, ""));
    assert!(login.out.contains("token tenants/acme/tokens/ci, operator of tenants/acme"), "{}", login.out);
    assert!(!login.out.contains(&value));
    let peers = daemon.said(&["get", "peers"], "");
    assert!(peers.out.contains("tenants/acme/peers/branch-12"), "{}{}", peers.out, peers.err);
    let denied = daemon.said(&["delete", "acme/branch-12"], "");
    assert!(denied.code == 8 && denied.err.contains("is an operator; this takes admin"), "{}", denied.err);
    let tokens = daemon.local(&["get", "tokens"]).out;
    assert!(tokens.contains("tenants/acme/tokens/ci") && tokens.contains("s ago"), "{tokens}");
    assert!(!tokens.contains(&value));
    let contexts = daemon.said(&["context", "list", "-o", "json"], "").out;
    assert!(contexts.contains("\"current\": true") && !contexts.contains(&value), "{contexts}");

    assert_eq!(daemon.local(&["delete", "token", "acme/ci"]).code, 0);
    let revoked = daemon.said(&["get", "peers"], "");
    assert!(revoked.code == 8 && revoked.err.contains("revoked"), "{}", revoked.err);
    let audit = daemon.local(&["get", "audit", "acme"]).out;
    for told in ["token tenants/acme/tokens/ci", "CreateToken", "PERMISSION_DENIED", "Apply"] {
        assert!(audit.contains(told), "{told}: {audit}");
    }
    assert!(!audit.contains(&value));
    assert_eq!(daemon.said(&["logout"], "").code, 0);
    assert_eq!(daemon.said(&["context"], "").out.lines().count(), 1);
}

/// A profile that exports where to go to, as the README has it, is not where somebody else's token is shown.
#[test]
fn what_is_said_on_the_command_line_goes_before_the_environment() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(directory.path(), "[grpc]\nlisten = \"127.0.0.1:0\"\nanonymous = \"none\"\n");
    let made = daemon.local(&["create", "token", "ops", "--role", "operator"]);
    assert_eq!(made.code, 0, "{}", made.err);
    let value = made.out.trim();
    let (url, socket) = (format!("http://{}", daemon.address), format!("unix:{}", daemon.socket.display()));
    let exported = ("CULVERT_SERVER", socket.as_str());
    // By the socket anybody is let in.
    let login = |typed: &str, variables: &[_]| {
        daemon.said_in(variables, &["login", &url, "--token-file", "-", "--name", "ops"], typed)
    };
    let wrong = login("cvt_wrong", &[exported, ("CULVERT_CONTEXT", "none")]);
    assert!(wrong.code == 8 && wrong.err.contains("unknown or was revoked"), "{}{}", wrong.out, wrong.err);
    let right = login(value, &[exported, ("CULVERT_TOKEN", "cvt_wrong")]);
    assert!(right.code == 0 && right.out.contains("token tokens/ops"), "{}{}", right.out, right.err);

    let (context, other) = (("CULVERT_CONTEXT", "ops"), ("CULVERT_TOKEN", "cvt_wrong"));
    let who = |variables: &[_], arguments: &[&str]| {
        let said = daemon.said_in(variables, &[arguments, &["-o", "json"]].concat(), "");
        let me: Value = serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("{}", said.err));
        me["principal"].as_str().unwrap().starts_with("token ")
    };
    for (variables, arguments, by_token) in [
        (&[exported] as &[_], &["--context", "ops", "whoami"] as &[_], true),
        (&[exported, other], &["whoami", "--context", "ops"], true),
        (&[exported, context], &["whoami"], false),
        (&[context], &["--server", &socket, "whoami"], false),
        (&[context], &["whoami"], true),
        (&[], &["whoami"], true),
        (&[exported], &["whoami"], false),
    ] {
        assert_eq!(who(variables, arguments), by_token, "{variables:?} {arguments:?}");
    }
    let both = daemon.said(&["--server", &url, "--context", "ops", "whoami"], "");
    assert!(both.out.contains("token tokens/ops"), "{}", both.err);

    // What the environment has beside a server is for that server alone.
    let elsewhere = [("CULVERT_SERVER", "https://vpn.invalid"), ("CULVERT_TOKEN", value)];
    let (here, alone) = ([("CULVERT_SERVER", url.as_str()), elsewhere[1]], [elsewhere[1]]);
    let bare = daemon.home.join(".config/culvert/config.yaml");
    let kept = std::fs::read_to_string(&bare).unwrap();
    std::fs::write(&bare, format!("currentContext: bare\ncontexts:\n  bare:\n    server: {url}\n")).unwrap();
    for arguments in
        [&["--server", &url, "whoami"] as &[_], &["--context", "bare", "whoami"], &["login", &url]]
    {
        let said = daemon.said_in(&elsewhere, arguments, "");
        assert!(said.code == 8 && said.err.contains("neither a token"), "{arguments:?}: {}", said.err);
        // Nor is it kept from what it is for.
        let said = daemon.said_in(&alone, arguments, "");
        assert!(said.code == 0 && said.out.contains("tokens/ops"), "{arguments:?}: {}", said.err);
    }
    for arguments in [&["whoami"] as &[_], &["--server", &url, "whoami"], &["login", &url]] {
        let said = daemon.said_in(&here, arguments, "");
        assert!(said.code == 0 && said.out.contains("tokens/ops"), "{arguments:?}: {}", said.err);
    }
    // However it is written, and beside a socket, which takes none.
    let (slash, socket) = (format!("{url}/"), [("CULVERT_SERVER", "unix:/nowhere.sock"), elsewhere[1]]);
    for environment in [&[("CULVERT_SERVER", slash.as_str()), elsewhere[1]], &socket] {
        let said = daemon.said_in(environment, &["--server", &url, "whoami"], "");
        assert!(said.code == 0 && said.out.contains("tokens/ops"), "{environment:?}: {}", said.err);
    }
    let said = daemon.said_in(&elsewhere, &["--server", &url, "whoami"], "");
    assert!(said.err.contains("CULVERT_TOKEN is for CULVERT_SERVER, https://vpn.invalid"), "{}", said.err);
    std::fs::write(&bare, kept).unwrap();
}

#[test]
fn certificates_say_who_one_is() {
    let directory = tempfile::tempdir().unwrap();
    let (ca, other) = (Identity::ca("own"), Identity::ca("other"));
    let (ca_file, _) = ca.write(directory.path(), "ca");
    let (other_file, _) = other.write(directory.path(), "other");
    let (cert, key) = ca.issue("node", &Alternative::Host("127.0.0.1")).write(directory.path(), "node");
    let token = directory.path().join("token");
    std::fs::write(&token, "0123456789abcdef0123456789abcdef\n").unwrap();
    let daemon = Daemon::start(
        directory.path(),
        &format!(
            "[grpc]\nlisten = \"127.0.0.1:0\"\n[grpc.tls]\ncert = {cert:?}\nkey = {key:?}\nclient_ca = {ca_file:?}\n\
             [[grpc.clients]]\nname = \"spiffe://example.org/ops/*\"\nrole = \"admin\"\n\
             [[grpc.clients]]\nname = \"viewer\"\nrole = \"viewer\"\n\
             [[grpc.tokens]]\nname = \"first\"\nfile = {token:?}\nrole = \"operator\"\n"
        ),
    );
    let url = format!("https://{}", daemon.address);
    let ask = |more: &[&str]| daemon.said(&[&["--server", url.as_str(), "whoami"], more].concat(), "");
    let file = |path: &Path| path.to_str().unwrap().to_owned();
    let (ca_file, other_file) = (file(&ca_file), file(&other_file));

    let unknown = ask(&[]);
    assert!(unknown.code == 6 && unknown.err.contains("the certificate of the node"), "{}", unknown.err);
    assert!(unknown.err.contains("hint: --ca"), "{}", unknown.err);
    assert_eq!(ask(&["--ca", &other_file]).code, 6, "another CA");
    let nobody = ask(&["--ca", &ca_file]);
    assert!(nobody.code == 8 && nobody.err.contains("neither a token nor a certificate"), "{}", nobody.err);
    let plain = daemon.said(&["--server", &format!("http://{}", daemon.address), "whoami"], "");
    assert!(
        plain.code == 6 && plain.err.contains("hint: ") && plain.err.contains("https://"),
        "{}",
        plain.err
    );
    let name = daemon
        .said(&["--server", &format!("https://localhost:{}", daemon.port()), "--ca", &ca_file, "whoami"], "");
    assert!(name.code == 6 && name.err.contains("--server-name"), "{}", name.err);

    let with = |identity: &Identity, name: &str| {
        let (cert, key) = identity.write(directory.path(), name);
        ask(&["--ca", &ca_file, "--cert", cert.to_str().unwrap(), "--key", key.to_str().unwrap()])
    };
    let ops = with(&ca.issue("x", &Alternative::Uri("spiffe://example.org/ops/ci")), "ops");
    assert!(
        ops.out.contains("certificate spiffe://example.org/ops/ci") && ops.out.contains("admin"),
        "{}",
        ops.err
    );
    let viewer = with(&ca.issue("viewer", &Alternative::None), "viewer");
    assert!(viewer.out.contains("certificate viewer"), "{}{}", viewer.out, viewer.err);
    let stranger = with(&ca.issue("somebody", &Alternative::Uri("spiffe://example.org/other")), "stranger");
    assert!(stranger.code == 8 && stranger.err.contains("grpc.clients"), "{}", stranger.err);
    let foreign = other.issue("viewer", &Alternative::None);
    let (foreign_cert, foreign_key) = foreign.write(directory.path(), "foreign");
    let foreign = with(&foreign, "foreign");
    assert_eq!(foreign.code, 6, "{}", foreign.err);
    assert!(foreign.err.contains("client_ca"), "{}", foreign.err);
    assert!(!foreign.err.contains("SSL") && !foreign.err.contains("library"), "{}", foreign.err);
    let (cert, key) = ca.expired("viewer").write(directory.path(), "expired");
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    let expired = ask(&["--ca", &ca_file, "--cert", cert.to_str().unwrap(), "--key", key.to_str().unwrap()]);
    assert!(expired.code == 6 && expired.err.contains("it has expired"), "{}", expired.err);
    assert!(expired.err.contains("warning: --key ") && expired.err.contains("mode 666"), "{}", expired.err);
    // Who runs the node reads why, without the client: a moment after that has gone.
    for why in ["it has expired", "no CA of grpc.tls.client_ca has made it"] {
        let noted = format!("the certificate of the client was refused: {why}");
        daemon::until(&noted, || daemon.local(&["get", "audit"]).out.contains(&noted));
    }
    // A token that was there before anybody could make one.
    let first = ask(&["--ca", &ca_file, "--token-file", token.to_str().unwrap()]);
    assert!(first.out.contains("token first (file)") && first.out.contains("operator"), "{}", first.err);
    // It is told each time, also where the client has already sent something when it is refused.
    for _ in 0..20 {
        let foreign = ask(&["--ca", &ca_file, "--cert", &file(&foreign_cert), "--key", &file(&foreign_key)]);
        assert!(foreign.err.contains("it is of a CA that the node does not know"), "{}", foreign.err);
    }
}

#[test]
fn certificates_are_read_again_and_what_cannot_be_used_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let ca = Identity::ca("own");
    let (cert, key) = ca.issue("node", &Alternative::None).write(directory.path(), "node");
    let tls = Tls::open(&TlsConfig { cert: cert.clone(), key: key.clone(), client_ca: None }).unwrap();
    let first = tls.expires().unwrap();
    assert!(tls.refresh());
    std::fs::write(&cert, "no certificate").unwrap();
    assert!(tls.is_usable() && !tls.refresh());
    assert!(tls.refresh() && !tls.is_usable(), "nothing has changed, and it is as broken as before");
    assert_eq!(tls.expires().unwrap(), first);
    Identity::ca("new").write(directory.path(), "node");
    assert!(tls.refresh() && tls.is_usable());
    assert!(tls.expires().unwrap() >= first);
    let fault = |config: TlsConfig| Tls::open(&config).err().unwrap().to_string();
    let missing = fault(TlsConfig { cert: "/nowhere".into(), key: key.clone(), client_ca: None });
    assert!(missing.starts_with("grpc.tls.cert /nowhere: "), "{missing}");
    let (_, foreign) = Identity::ca("x").write(directory.path(), "x");
    let wrong = fault(TlsConfig { cert, key: foreign, client_ca: None });
    assert!(wrong.starts_with("grpc.tls.key") && wrong.contains("not that of grpc.tls.cert"), "{wrong}");
}
