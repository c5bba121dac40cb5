//! The gRPC API of Culvert: the `.proto` files and the types, servers and clients generated from them.
//!
//! It is not the model: nothing here is validated, which is what the `tenants` crate does.
//! Start reading with `culvert/v1/tenant.proto`, which also states the conventions.

/// Version 1 of the API, package `culvert.v1`.
pub mod v1 {
    // Generated code is not held to the rules for handwritten code; its documentation is the .proto files'.
    #![allow(missing_docs, unreachable_pub, clippy::all, clippy::unwrap_used, clippy::expect_used)]
    tonic::include_proto!("culvert.v1");
}

/// As much of the API of etcd as nodes of a cluster call, package `etcdserverpb`.
pub mod etcd {
    #![allow(missing_docs, unreachable_pub, clippy::all, clippy::unwrap_used, clippy::expect_used)]
    tonic::include_proto!("etcdserverpb");
}

/// The compiled descriptors of all files (a serialised `google.protobuf.FileDescriptorSet`), comments
/// included: for server reflection and for conversion between messages and JSON or YAML.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The descriptors of [`FILE_DESCRIPTOR_SET`], parsed once.
pub fn descriptor_pool() -> &'static prost_reflect::DescriptorPool {
    static POOL: std::sync::LazyLock<prost_reflect::DescriptorPool> = std::sync::LazyLock::new(|| {
        #[allow(clippy::expect_used, reason = "a constant of the build, and a test decodes it")]
        prost_reflect::DescriptorPool::decode(FILE_DESCRIPTOR_SET).expect("descriptors of the build")
    });
    &POOL
}

/// The descriptor of the message `name` of `culvert.v1`, e.g. `"Peer"`.
pub fn message_descriptor(name: &str) -> Option<prost_reflect::MessageDescriptor> {
    descriptor_pool().get_message_by_name(&format!("culvert.v1.{name}"))
}

impl std::fmt::Debug for v1::Secret {
    /// Never shows the value.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secret")
            .field("name", &self.name)
            .field("display_name", &self.display_name)
            .field("value", &format_args!("<{} octets>", self.value.len()))
            .field("etag", &self.etag)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for v1::Token {
    /// Never shows the value.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token")
            .field("name", &self.name)
            .field("role", &self.role)
            .field("expire_time", &self.expire_time)
            .field("value", &format_args!("<{} octets>", self.value.len()))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn descriptors_are_found() {
        assert!(crate::message_descriptor("Peer").is_some());
        assert!(crate::message_descriptor("Pear").is_none());
    }

    #[test]
    fn a_secret_is_not_printed() {
        let secret = crate::v1::Secret { value: b"hunter2".to_vec(), ..Default::default() };
        let request = crate::v1::CreateSecretRequest { secret: Some(secret), ..Default::default() };
        let text = format!("{request:?}");
        assert!(text.contains("<7 octets>"), "{text}");
        assert!(!text.contains("hunter2") && !text.contains("104, 117"), "{text}");
    }
}
