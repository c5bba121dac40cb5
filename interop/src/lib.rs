//! Interop
