mod mime;
mod smtp_dialogues;
mod sockets;
mod store_suite;
