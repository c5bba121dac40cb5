//! Configuration of `culvertd`: a TOML file in which everything may be left out.

mod audit;
mod bootstrap;
mod cluster;
mod exposed;
mod grpc;
mod level;
mod metrics;
mod otlp;
mod shutdown;
mod vault;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use serde::Deserialize;

pub use audit::AuditConfig;
pub use bootstrap::BootstrapConfig;
pub use cluster::ClusterConfig;
pub(crate) use exposed::exposed;
pub use grpc::{Anonymous, ClientRule, GrpcConfig, TlsConfig, TokenRule, UserRule};
pub(crate) use level::check_level;
pub use metrics::MetricsConfig;
pub use otlp::OtlpConfig;
pub use shutdown::ShutdownConfig;
pub use vault::VaultConfig;

/// Read if no other file is named and it exists.
pub const DEFAULT_PATH: &str = "/etc/culvert/culvertd.toml";

/// Addresses to listen on at most: each has sockets of its own in every shard.
const MAX_LISTEN: usize = 16;
/// Shards and slots are 6 bits of the SPI; slot 0 would make SPIs that RFC 4303 2.1 reserves.
const MAX_SHARDS: usize = 64;
const MAX_SLOT: u8 = 63;

/// A path that may be left out, as text.
fn path(path: Option<&Path>) -> String {
    path.map_or("none".to_owned(), |path| path.display().to_string())
}

/// Configuration of `culvertd`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the catalog and the key of its secrets are kept.
    pub state_dir: StateDir,
    /// The key of the secrets at rest.
    pub vault: VaultConfig,
    /// What several nodes share.
    pub cluster: ClusterConfig,
    /// What the daemon has from its first start on.
    pub bootstrap: BootstrapConfig,
    /// How the daemon goes down.
    pub shutdown: ShutdownConfig,
    /// Where IKE and ESP are received.
    pub ike: IkeConfig,
    /// The packet path.
    pub router: RouterConfig,
    /// The API.
    pub grpc: GrpcConfig,
    /// What Prometheus reads, and probes.
    pub metrics: MetricsConfig,
    /// Where spans and metrics are sent to.
    pub otlp: OtlpConfig,
    /// What was done over the API.
    pub audit: AuditConfig,
    /// The log.
    pub log: LogConfig,
    /// What helps to look into traffic, and what nobody should have on for long.
    pub debug: DebugConfig,
}

/// What helps to look into traffic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DebugConfig {
    /// An existing directory for `ikev2_decryption_table` and `esp_sa`, the tables with which Wireshark decrypts IKE and
    /// ESP. Whoever reads them reads all tunnels, so they are for their owner alone and never written by default.
    pub key_log_dir: Option<PathBuf>,
}

/// A directory with a default that depends on the user.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct StateDir(pub PathBuf);

/// Where IKE and ESP are received.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IkeConfig {
    /// Addresses. Unspecified ones (`0.0.0.0`, `::`) stand for all of their family.
    pub listen: Vec<IpAddr>,
    /// UDP port of IKE. 0: the system chooses one, and the log says which.
    pub port: u16,
    /// UDP port of IKE and ESP behind NAT (RFC 3948). 0 as for `port`.
    pub natt_port: u16,
}

/// The packet path.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RouterConfig {
    /// Threads that carry packets.
    pub shards: usize,
    /// Slot of this node in the SPIs it chooses, 1 to 63. Nodes of a cluster are given theirs.
    pub slot: u8,
    /// Send and receive ESP without UDP where a peer needs none. Takes CAP_NET_RAW; without it every peer is made to use
    /// UDP.
    pub raw_esp: bool,
    /// TUN devices hand over and take many packets of a flow as one (segmentation offload), where the kernel can. Off is for
    /// looking for faults: bulk data goes three to four times as fast with it.
    pub tun_offload: bool,
}

/// The log, on standard error.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// Level, or directives such as `info,culvert=debug`. The environment variable `CULVERT_LOG` goes first.
    pub level: String,
    /// One line of text or of JSON per record.
    pub format: LogFormat,
}

/// Form of a log record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For collectors.
    Json,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not TOML, or a field is unknown or of the wrong type.
    #[error("{path}: {reason}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        reason: String,
    },
    /// A field has a value that cannot be used.
    #[error("{field}: {reason}")]
    Field {
        /// The field, e.g. `router.slot`.
        field: &'static str,
        /// Why, and what is expected.
        reason: String,
    },
}

impl Config {
    /// Reads the file named, or else [`DEFAULT_PATH`] if it exists, or else takes the defaults.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let (path, required) = match path {
            Some(path) => (path, true),
            None => (Path::new(DEFAULT_PATH), false),
        };
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, path),
            Err(error) if !required && error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(ConfigError::Read { path: path.to_owned(), source }),
        }
    }

    /// The file that [`Self::load`] reads, if it reads one.
    pub fn file(path: Option<&Path>) -> Option<PathBuf> {
        path.map(Path::to_owned).or_else(|| Some(PathBuf::from(DEFAULT_PATH)).filter(|path| path.exists()))
    }

    /// Every field with its value as text. Taken apart field by field, so that a new one cannot be forgotten.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        let Self {
            state_dir: StateDir(state_dir),
            vault,
            cluster,
            bootstrap,
            shutdown,
            ike,
            router,
            grpc,
            metrics,
            otlp,
            audit,
            log,
            debug,
        } = self;
        let IkeConfig { listen, port, natt_port } = ike;
        let RouterConfig { shards, slot, raw_esp, tun_offload } = router;
        let LogConfig { level, format } = log;
        let DebugConfig { key_log_dir } = debug;
        let listen: Vec<_> = listen.iter().map(ToString::to_string).collect();
        let mut settings = vec![
            ("state_dir", state_dir.display().to_string()),
            ("ike.listen", listen.join(", ")),
            ("ike.port", port.to_string()),
            ("ike.natt_port", natt_port.to_string()),
            ("router.shards", shards.to_string()),
            ("router.slot", slot.to_string()),
            ("router.raw_esp", raw_esp.to_string()),
            ("router.tun_offload", tun_offload.to_string()),
        ];
        settings.extend(grpc.settings(state_dir));
        settings.extend(audit.settings());
        settings.extend([
            ("log.level", level.clone()),
            ("log.format", format!("{format:?}").to_lowercase()),
            ("debug.key_log_dir", path(key_log_dir.as_deref())),
        ]);
        settings.extend(vault.settings());
        settings.extend(cluster.settings());
        settings.extend(bootstrap.settings());
        settings.extend(shutdown.settings());
        settings.extend(metrics.settings());
        settings.extend(otlp.settings());
        settings
    }

    /// The fields that differ, with the value here and there.
    pub fn differences(&self, other: &Self) -> Vec<(&'static str, String, String)> {
        let pairs = self.settings().into_iter().zip(other.settings());
        pairs.filter(|(a, b)| a != b).map(|((field, a), (_, b))| (field, a, b)).collect()
    }

    /// Parses and checks the text of the file `path`.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let parsed: Result<Self, _> = toml::from_str(text);
        let config = parsed.map_err(|error| ConfigError::Parse {
            path: path.to_owned(),
            reason: error.to_string().trim_end().to_owned(),
        })?;
        config.check()?;
        Ok(config)
    }

    /// What the types cannot say.
    pub fn check(&self) -> Result<(), ConfigError> {
        let fault = |field, reason: String| Err(ConfigError::Field { field, reason });
        if self.ike.listen.is_empty() || self.ike.listen.len() > MAX_LISTEN {
            return fault(
                "ike.listen",
                format!("{} addresses; expected 1 to {MAX_LISTEN}", self.ike.listen.len()),
            );
        }
        let mut seen = std::collections::HashSet::new();
        if let Some(twice) = self.ike.listen.iter().find(|address| !seen.insert(**address)) {
            return fault("ike.listen", format!("{twice} is there twice"));
        }
        if self.ike.port == self.ike.natt_port && self.ike.port != 0 {
            let port = self.ike.port;
            return fault("ike.natt_port", format!("{port} is ike.port too; ESP and IKE need a port each"));
        }
        if !(1..=MAX_SHARDS).contains(&self.router.shards) {
            return fault("router.shards", format!("{} is not 1 to {MAX_SHARDS}", self.router.shards));
        }
        if !(1..=MAX_SLOT).contains(&self.router.slot) {
            return fault("router.slot", format!("{} is not 1 to {MAX_SLOT}", self.router.slot));
        }
        self.grpc.check(&self.state_dir.0)?;
        self.audit.check()?;
        self.cluster.check(self.vault.key_file.is_some())?;
        self.shutdown.check()?;
        if let Err(reason) = check_level(&self.log.level) {
            return fault("log.level", reason);
        }
        self.metrics.check()?;
        self.otlp.check()
    }
}

impl Default for StateDir {
    /// `/var/lib/culvert` where that can be written to, else a directory of the user.
    fn default() -> Self {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        // systemd's StateDirectory=.
        if let Some(directory) = set("STATE_DIRECTORY") {
            return Self(directory);
        }
        match (set("HOME"), set("XDG_STATE_HOME")) {
            (Some(home), _) if home == Path::new("/root") => {}
            (_, Some(state)) => return Self(state.join("culvert")),
            (Some(home), None) => return Self(home.join(".local/state/culvert")),
            (None, None) => {}
        }
        Self(PathBuf::from("/var/lib/culvert"))
    }
}

impl Default for IkeConfig {
    fn default() -> Self {
        Self { listen: default_listen(), port: 500, natt_port: 4500 }
    }
}

/// All addresses of this host, of IPv6 too where the host has it.
fn default_listen() -> Vec<IpAddr> {
    let v6 = Path::new("/proc/net/if_inet6").exists();
    [Some(Ipv4Addr::UNSPECIFIED.into()), v6.then_some(Ipv6Addr::UNSPECIFIED.into())]
        .into_iter()
        .flatten()
        .collect()
}

impl Default for RouterConfig {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { shards: cores.min(MAX_SHARDS), slot: 1, raw_esp: true, tun_offload: true }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("culvertd.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn everything_may_be_left_out() {
        assert_eq!(parse("").unwrap(), Config::default());
        let config = parse("state_dir = \"/tmp/x\"\n[ike]\nlisten = [\"::1\"]\nport = 1500\n").unwrap();
        assert_eq!(config.state_dir.0, Path::new("/tmp/x"));
        assert_eq!((config.ike.port, config.ike.natt_port), (1500, 4500));
    }

    #[test]
    fn the_example_is_the_defaults_but_for_the_ports() {
        let example = parse(include_str!("../../examples/culvertd.toml")).unwrap();
        let defaults = Config::default();
        let ike = IkeConfig { port: 1500, natt_port: 14500, ..defaults.ike };
        assert_eq!(example, Config { ike, ..defaults });
    }

    #[test]
    fn faults_name_the_field() {
        let fault = |text: &str| parse(text).unwrap_err();
        let text = fault("[ike]\nlisen = []\n");
        assert!(
            text.contains("culvertd.toml") && text.contains("line 2") && text.contains("lisen"),
            "{text}"
        );
        assert!(text.contains("`listen`, `port`"), "{text}");
        assert!(fault("[ike]\nport = 99999\n").contains("port = 99999"));
        assert!(fault("[ike]\nlisten = [\"::\", \"::\"]\n").starts_with("ike.listen: :: is there twice"));
        assert!(fault("[ike]\nport = 4500\n").starts_with("ike.natt_port: 4500"));
        assert!(parse("[ike]\nport = 0\nnatt_port = 0\n").is_ok(), "the system chooses two");
        assert!(fault("[router]\nslot = 0\n").starts_with("router.slot: 0 is not 1 to 63"));
        assert!(fault("[router]\nshards = 65\n").starts_with("router.shards"));
        assert!(fault("[metrics]\nmax_peers = 2000000\n").starts_with("metrics.max_peers: 2000000"));
        assert!(fault("[otlp]\nendpoint = \"ftp://c:4317\"\n").contains("or https:// with TLS"));
        let plain = "[otlp]\nendpoint = \"http://c:4317\"\nca = \"x\"\n";
        assert!(fault(plain).starts_with("otlp.ca: goes with an otlp.endpoint that begins with https"));
        let half = "[otlp]\nendpoint = \"https://c:4317\"\nkey = \"x\"\n";
        assert!(fault(half).contains("otlp.cert and otlp.key go together"));
        assert!(fault("[otlp]\nendpoint = \"collector\"\n").contains("http://127.0.0.1:4317"));
        assert!(fault("[otlp]\ninterval = \"1ms\"\n").starts_with("otlp.interval: 1ms"));
        assert!(fault("[otlp]\ninterval = \"soon\"\n").contains("15s"));
        assert!(fault("[otlp]\nsample_ratio = 2.0\n").starts_with("otlp.sample_ratio: 2"));
        assert!(fault("[audit]\nmax_bytes = 5\n").starts_with("audit.max_bytes: 5 is below"));
        let cluster = |rest: &str| {
            fault(&format!("[cluster]\netcd = [\"http://10.0.0.1:2379\"]\nnode = \"a\"\n{rest}"))
        };
        assert!(cluster("").starts_with("vault.key_file: is missing"));
        assert!(cluster("prefix = \"x/\"\n").starts_with("cluster.prefix: \"x/\""));
        assert!(cluster("cert = \"/c.pem\"\n").starts_with("cluster.cert"));
        assert!(
            cluster("mesh_cert = \"/c.pem\"\n")
                .starts_with("cluster.mesh_ca: cluster.mesh_ca, cluster.mesh_cert")
        );
        for file in ["ca", "cert", "key"] {
            let text = cluster(&format!("{file} = \"x\"\n"));
            assert!(
                text.starts_with(&format!("cluster.{file}: goes with members that begin with https")),
                "{text}"
            );
        }
        let half = "[cluster]\netcd = [\"https://e:2379\"]\nnode = \"a\"\nkey = \"x\"\n";
        assert!(fault(half).starts_with("cluster.cert: cluster.cert and cluster.key go together"));
        assert!(
            cluster("advertise = \"0.0.0.0:4510\"\n")
                .starts_with("cluster.advertise: 0.0.0.0:4510: expected")
        );
        assert!(cluster("listen = \"10.0.0.1\"\n").contains("listen = \"10.0.0.1\""));
        assert!(
            fault("[cluster]\netcd = [\"10.0.0.1\"]\n")
                .starts_with("cluster.etcd: 10.0.0.1: expected such as")
        );
        assert!(
            fault("[cluster]\netcd = [\"http://e:2379\"]\nnode = \"A B\"\n")
                .starts_with("cluster.node: \"A B\"")
        );
        assert!(fault("[audit]\nkeep = 0\n").starts_with("audit.keep"));
        assert!(
            fault("[audit]\nkeep = 1000000000\n").starts_with("audit.keep: 1000000000 is more than 10000")
        );
        assert!(fault("[log]\nlevel = \"a=b=c\"\n").starts_with("log.level"));
        for level in ["loud", "", "info,loud", "inof", "culvert=loud"] {
            let text = fault(&format!("[log]\nlevel = \"{level}\"\n"));
            assert!(text.starts_with("log.level: ") && text.contains("info"), "{text}");
        }
        assert!(fault("[log]\nlevel = \"loud\"\n").contains("off, error, warn, info, debug or trace"));
        for level in ["INFO", "off", "info,culvert=debug", "warn,tenants=trace"] {
            assert!(parse(&format!("[log]\nlevel = \"{level}\"\n")).is_ok(), "{level}");
        }
        let users = "[[grpc.users]]\nuid = 7\nrole = \"viewer\"\n[[grpc.users]]\nuid = 7\nrole = \"admin\"\n";
        assert!(fault(users).starts_with("grpc.users: 7 is there twice"));
        assert!(fault("[shutdown]\ndrain = \"2h\"\n").starts_with("shutdown.drain: 2h is longer than 1h"));
        assert!(fault("[shutdown]\ndrain = \"soon\"\n").contains("\"soon\" is not a duration"));
        assert_eq!(parse("[shutdown]\ndrain = \"1m 30s\"\n").unwrap().shutdown.drain.as_secs(), 90);
        assert!(fault("[log]\nformat = \"xml\"\n").contains("`text` or `json`"));
    }
}
