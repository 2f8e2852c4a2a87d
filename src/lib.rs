//! Mailroom: a mail platform in one binary. This page is the map.
//!
//! # How mail flows
//!
//! From a client's connection to a committed row, and from there to everyone who listens:
//!
//! ```text
//! inbound::listener -> inbound::session -- handoff::Door --> inbound::mailbox(es) --> store::writer --> bodies, database
//!                         |        |                ^    |                   |
//!             smtp::server (pure)  |                |    |   <--- Stored ----+
//!                            inbound::registry -----+    +-- event --> sockets::session --> browser
//!                            (its map is read by all)    +-- event --> inbound::everything (`*`), waiters, SSE
//! ```
//!
//! Where a broker is configured ([`cluster`]) the last step is cut in two: a session is answered once the broker has confirmed
//! the delivery, and consumers bring it from there to the writer. Otherwise a session is answered 250 when the writer has committed its batch: bodies appended and synced, rows committed, one batch
//! at a time. Every committed change is told to its mailbox actor in commit order; a subscriber that falls behind is
//! served from the store and joins again, so nobody waits for it and it misses nothing.
//!
//! From a request to an answer:
//!
//! ```text
//! browser, API client -> web (routes, problems) -> store (lists, messages)      /v1/ws -> sockets::upgrade
//!                                |                      ^                                   |
//!                                +-> inbound (wait,     |                            sockets::session (actor)
//!                                    events) -----------+ <---- Subscribe, Page -----------+
//! ```
//!
//! # Who may import whom
//!
//! | module | may import |
//! |---|---|
//! | [`mail`] | nothing of this crate; pure |
//! | [`smtp`] | mail; pure |
//! | [`clock`], [`seldom`], [mod@settings] | std, serde, toml; `settings` also mail |
//! | [`tls`] | settings; alone names rustls |
//! | [`store`] | mail, clock, supervise, tls; alone names SeaORM and the entities |
//! | [`cluster`] | mail, store, clock, supervise, tls; alone names Redis, and `broker` lapin |
//! | [`handoff`], [`supervise`] | mail, actix |
//! | [`inbound`] | mail, smtp, store, cluster, clock, handoff, supervise |
//! | [`accounts`] | mail, store, clock |
//! | [`sockets`] | mail, accounts, cluster, inbound; `session.rs` alone names actix-web-actors |
//! | [`web`] | mail, store, accounts, cluster, handoff, inbound, sockets |
//! | [`config`], [`telemetry`], [`ops`] | each stage's settings and metric descriptions; `ops` also `accounts` (whose pages ask) |
//! | [`cli`] | app, cluster, config, mail, smtp, store, startup, telemetry, tls; `doctor` metric names of accounts and inbound |
//! | [`app`] | everything; named by `cli` and tests only |
//!
//! "Pure" means: no actors, sockets, database, log, metrics or clock; bytes and times come in, replies and events go out. Every
//! stage may also use `settings` in its `config.rs`, and `seldom`. `tests/it/layering.rs` has the same table and fails on a break.
//!
//! # Where to begin
//!
//! 1. [`mail`]: the words, above all `address`, `envelope`, `event`, `cursor`.
//! 2. [`smtp`]: `server`, the state machine, beside a dialogue of `tests/smtp/`.
//! 3. [`inbound`]: `session`, `door`, `delivery`, `mailbox`.
//! 4. [`store`]: `writer`, then `bodies`; `docs/storage.md` beside it.
//! 5. [`app`]: how it is put together.
//!
//! # Where a change goes
//!
//! | to change | go to |
//! |---|---|
//! | what a command of SMTP answers | `smtp/server.rs`, `smtp/reply.rs`, a dialogue in `tests/smtp/` |
//! | who may receive, how much, how long | `inbound/policy.rs`, `inbound/config.rs` |
//! | what is stored of a message | `entity/`, a new file in `migration/`, `store/columns.rs` |
//! | what a list or a message shows | `mail/summary.rs`, `mail/parsed.rs`, `web/views.rs` |
//! | the search syntax | `mail/query`, and nothing else: index and filters use the same words |
//! | a call of the API | a file in `web/`, its line in `web/routes.rs` |
//! | what a WebSocket says | `sockets/frame.rs`, `mail/event.rs` |
//! | a setting | the stage's `config.rs`, which is also its documentation and its check |
//! | a metric | the stage's `metrics.rs` |
//! | a command | a file in `cli/` |
//! | what stands before and around it | `nginx/`, `deploy/`, `docs/deployment.md`; checked by `tests/it/deploy/` |

pub mod accounts;
pub mod app;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod handoff;
pub mod inbound;
pub mod mail;
pub mod ops;
pub mod seldom;
pub mod settings;
pub mod smtp;
pub mod sockets;
pub mod startup;
pub mod store;
pub mod supervise;
pub mod telemetry;
pub mod tls;
pub mod web;
