//! Tokens that are believed, and every way not to be.
