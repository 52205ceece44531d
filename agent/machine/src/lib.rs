//! What memory this machine has, and how fast it is: detected and measured.
