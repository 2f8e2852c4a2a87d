mod mime;
mod smtp_dialogues;
mod store_suite;
mod sockets;
