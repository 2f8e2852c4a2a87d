//! Parameters of a database URL: none that the driver would pass over without a word, no certificate that nobody would look at.

use crate::settings::url::parameter;

/// What PostgreSQL's driver takes, besides `options[NAME]`.
const POSTGRES: &[&str] = &[
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "options",
];
/// What MySQL's takes.
const MYSQL: &[&str] = &[
    "ssl-mode",
    "sslmode",
    "ssl-ca",
    "sslca",
    "ssl-cert",
    "sslcert",
    "ssl-key",
    "sslkey",
    "charset",
    "collation",
    "socket",
    "timezone",
    "time-zone",
];
const POSTGRES_MODES: &[&str] = &["disable", "prefer", "require", "verify-ca", "verify-full"];
const MYSQL_MODES: &[&str] = &["disabled", "preferred", "required", "verify_ca", "verify_identity"];

/// Looks at the part behind `?` of a `postgres://` or `mysql://` URL.
///
/// # Errors
/// What is wrong, without values that may be secret.
pub fn check(url: &str) -> Result<(), String> {
    let mysql = url.starts_with("mysql://");
    let (known, modes) = if mysql { (MYSQL, MYSQL_MODES) } else { (POSTGRES, POSTGRES_MODES) };
    let query = url.split('#').next().and_then(|url| url.split_once('?')).map_or("", |(_, query)| query);
    let (mut mode, mut authority) = (None, None);
    for (name, value) in
        query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
    {
        let option = !mysql && name.starts_with("options[");
        if !option && !known.contains(&name) {
            let name = parameter(name, query);
            return Err(format!("this build knows no parameter {name} of a URL; possible: {}", known.join(", ")));
        }
        match name {
            "sslmode" | "ssl-mode" => mode = Some((name, value)),
            "sslrootcert" | "ssl-root-cert" | "ssl-ca" | "sslca" => authority = Some(name),
            _ => {}
        }
    }
    let lower = mode.map(|(name, value)| (name, value.to_ascii_lowercase()));
    if let Some((name, value)) = lower.as_ref().filter(|(_, value)| !modes.contains(&value.as_str())) {
        let value = if query.contains('@') { "…" } else { value };
        return Err(format!("this build knows no {name}={value}; possible: {}", modes.join(", ")));
    }
    let verifies = lower.is_some_and(|(_, value)| value.starts_with("verify"));
    match authority {
        Some(name) if !verifies => {
            let [.., whole] = modes else { return Ok(()) };
            let mode = if mysql { "ssl-mode" } else { "sslmode" };
            Err(format!(
                "{name} is looked at with {mode}={whole} alone (or {}), and that is not there",
                modes.get(3).unwrap_or(whole)
            ))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_driver_would_pass_over_is_refused() {
        for url in [
            "postgres://h/m",
            "postgres://h/m?sslmode=verify-full&sslrootcert=/ca.pem&sslcert=/c&sslkey=/k",
            "postgres://h/m?sslmode=require&options[search_path]=mail",
            "postgres:///m?host=/run/postgresql#x",
            "mysql://h/m?ssl-mode=VERIFY_IDENTITY&ssl-ca=/ca.pem",
            "mysql://h/m?ssl-mode=DISABLED",
        ] {
            assert_eq!(check(url), Ok(()), "{url}");
        }
        for (url, said) in [
            (
                "postgres://h/m?sslmod=verify-full",
                "this build knows no parameter \"sslmod\" of a URL; possible: sslmode, ",
            ),
            (
                "mysql://h/m?sslrootcert=/ca.pem",
                "this build knows no parameter \"sslrootcert\" of a URL; possible: ssl-mode, ",
            ),
            (
                "postgres://h/m?sslmode=allow",
                "this build knows no sslmode=allow; possible: disable, prefer, require, verify-ca, verify-full",
            ),
            ("mysql://h/m?ssl-mode=VERIFY", "this build knows no ssl-mode=verify; possible: disabled, "),
            (
                "postgres://h/m?sslmode=require&sslrootcert=/ca.pem",
                "sslrootcert is looked at with sslmode=verify-full alone (or verify-ca), and that is not there",
            ),
            (
                "mysql://h/m?ssl-ca=/ca.pem",
                "ssl-ca is looked at with ssl-mode=verify_identity alone (or verify_ca), and that",
            ),
        ] {
            let why = check(url).unwrap_err();
            assert!(why.starts_with(said), "{url}: {why}");
        }
    }
}
