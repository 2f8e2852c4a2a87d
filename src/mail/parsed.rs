//! parsed
