//! Everything that needs `unsafe`: system calls that no safe crate offers. Nothing in here knows of ESP.

mod bpf;
mod bpf_code;
pub(crate) mod clear;
mod control_message;
pub(crate) mod device_steering;
pub(crate) mod error_queue;
pub(crate) mod huge_pages;
pub(crate) mod netlink;
pub(crate) mod netns;
pub(crate) mod path_mtu;
pub(crate) mod prefetch;
pub(crate) mod raw_esp;
pub(crate) mod receive;
pub(crate) mod scheduling;
pub(crate) mod socket_options;
pub(crate) mod steering;
pub(crate) mod transmit;
pub(crate) mod tun;
pub(crate) mod virtio;
