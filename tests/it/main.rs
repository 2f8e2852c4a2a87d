mod api;
mod events;
mod layering;
mod mime;
mod smtp_dialogues;
mod sockets;
mod store_suite;
mod support;
