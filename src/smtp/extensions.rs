//! What the server offers: the answers to EHLO, HELO and HELP.

use super::reply;

const COMMANDS: &str = "EHLO HELO MAIL RCPT DATA RSET NOOP VRFY HELP QUIT";

/// Appends the answer to EHLO (RFC 5321 §4.1.1.1): the host's name and one extension a line.
///
/// `max_message_size` is in octets (RFC 1870 §4).
pub fn write_ehlo(host_name: &str, max_message_size: usize, out: &mut Vec<u8>) {
    let size = format!("SIZE {max_message_size}");
    let extensions = [
        "PIPELINING", // RFC 2920
        &size,
        "8BITMIME",            // RFC 6152
        "ENHANCEDSTATUSCODES", // RFC 2034
        "SMTPUTF8",            // RFC 6531
        "HELP",
    ];
    reply::HELLO.write_lines(host_name, &extensions, out);
}

/// Appends the answer to HELO: the host's name alone.
pub fn write_helo(host_name: &str, out: &mut Vec<u8>) {
    reply::HELLO.write_text(host_name, out);
}

/// Appends the answer to HELP: the commands that this server carries out.
pub fn write_help(out: &mut Vec<u8>) {
    reply::HELP.write_lines(reply::HELP.text(), &[COMMANDS], out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offers_the_extensions_that_work() {
        let mut out = Vec::new();
        write_ehlo("mx.test", 10_485_760, &mut out);
        let expected = "250-mx.test\r\n250-PIPELINING\r\n250-SIZE 10485760\r\n250-8BITMIME\r\n\
            250-ENHANCEDSTATUSCODES\r\n250-SMTPUTF8\r\n250 HELP\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn names_its_commands() {
        let mut out = Vec::new();
        write_help(&mut out);
        assert!(String::from_utf8(out).unwrap().starts_with("214-2.0.0 Commands:\r\n214 2.0.0 EHLO HELO"));
    }
}
