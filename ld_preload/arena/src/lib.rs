//! Allocators over the memory of tiers, for use inside the shim.
