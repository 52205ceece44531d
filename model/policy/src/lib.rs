//! The policy file: which object belongs in which tier, read, written, and compiled for the shim.
