//! The host waits for the same on the node that takes over.

use prost::Message;

use super::{Asked, Rekeyings};

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct AskedForm {
    #[prost(fixed32, tag = "1")]
    spi_in: u32,
    #[prost(string, tag = "2")]
    policy: String,
    #[prost(bool, tag = "3")]
    anew: bool,
}

impl Rekeyings {
    pub(crate) fn form(&self) -> Vec<AskedForm> {
        let form = |Asked { spi_in, policy, anew }: &Asked| AskedForm {
            spi_in: *spi_in,
            policy: policy.to_string(),
            anew: *anew,
        };
        self.0.iter().map(form).collect()
    }

    pub(crate) fn restore(form: &[AskedForm]) -> Self {
        let read = |form: &AskedForm| Asked {
            spi_in: form.spi_in,
            policy: form.policy.as_str().into(),
            anew: form.anew,
        };
        Self(form.iter().map(read).collect())
    }
}
