//! Tests against real IKE peers: strongSwan from Debian and our own `culvertd`, each in a network namespace.
//!
//! It is not a simulator: processes, sockets and TUN devices are real, so the tests need root and a few packages. What
//! is missing is named when a test is skipped; in CI nothing may be missing.
//!
//! Start with [`lab::Lab`]: two namespaces and a wire. [`charon`] is strongSwan, [`pluto`] is Libreswan for IKE alone,
//! [`daemon`] is Culvert, [`cluster`] are three of it with etcd, all ended when dropped, whatever happened.
#![allow(clippy::panic, clippy::print_stderr)] // A test that cannot go on says why and ends.
#![allow(clippy::indexing_slicing)] // JSON values, where a missing field is null, and our own arrays.

pub mod capture;
pub mod charon;
pub mod cluster;
pub mod command;
pub mod daemon;
pub mod echo;
pub mod lab;
pub mod pluto;
pub mod rubbish;
pub mod traffic;
pub mod wait;
