//! The SeaORM entities.
