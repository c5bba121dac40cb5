//! Everything that needs `unsafe`: system calls that no safe crate offers. Nothing in here knows of ESP.

pub(crate) mod clear;
pub(crate) mod netlink;
pub(crate) mod netns;
pub(crate) mod socket_options;
pub(crate) mod steering;
pub(crate) mod tun;
