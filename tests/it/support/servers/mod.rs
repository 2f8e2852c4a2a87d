//! Servers that tests talk to, from Debian's packages, each on ports and in a directory of its own.
//!
//! A server is told by name: [`Postgres`], [`MariaDb`] (or a MySQL that [`mysqld`] names), [`Redis`] and [`RedisCluster`], [`RabbitMq`], [`Nginx`]. Each is a
//! [`Running`] program that can be killed, paused, stopped and started again on the same ports and data, and each ends with
//! the test process, even when that is killed ([`running`]). Databases are shared by a whole run and cut into fresh ones,
//! one a test ([`database`]); a test that kills a server starts its own.

#![allow(dead_code, reason = "a server can do more than the tests of one engine ask for")]

pub mod database;
mod mariadb;
mod mysql;
mod nginx;
mod postgres;
mod rabbitmq;
mod redis;
mod running;
mod s3;

pub(crate) use database::everywhere;
pub use database::{Database, Engine};
pub use mariadb::MariaDb;
pub use mysql::program as mysqld;
pub use nginx::Nginx;
pub use postgres::Postgres;
pub use rabbitmq::RabbitMq;
pub use redis::{Redis, RedisCluster};
pub use running::{Running, Words};
pub use s3::S3;
