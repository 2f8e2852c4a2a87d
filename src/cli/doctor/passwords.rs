//! Passwords that everybody knows: those of the example files in `deploy/`, which are to be replaced before anything starts.

use super::Check;
use crate::config::Config;

const NAME: &str = "passwords";
/// What they begin with; a number may follow.
const EXAMPLE: &str = "changeme";

/// Nothing where no password is set.
pub fn checks(config: &Config) -> Vec<Check> {
    let of_urls = |setting, urls: &[String]| {
        let found = urls.iter().flat_map(|url| passwords(url)).map(|password| (setting, password));
        found.collect::<Vec<_>>()
    };
    let cold = &config.cold;
    let mut set = of_urls("[database] url", std::slice::from_ref(&config.database.url));
    set.extend(of_urls("[database] replicas", &config.database.replicas));
    set.extend(of_urls("[redis] url", config.redis.url.urls()));
    set.extend(of_urls("[broker] url", std::slice::from_ref(&config.broker.url)));
    set.extend([
        ("[cold] access_key_id", cold.access_key_id.clone()),
        ("[cold] secret_access_key", cold.secret_access_key.reveal().to_owned()),
    ]);
    set.retain(|(_, password)| !password.is_empty());
    if set.is_empty() {
        return Vec::new();
    }
    let mut known: Vec<&str> = set.iter().filter(|(_, password)| is_example(password)).map(|(name, _)| *name).collect();
    known.dedup();
    if known.is_empty() {
        return vec![Check::ok(NAME, "none of the example files is in use")];
    }
    let advice = "everybody knows it: set another in the server and here (openssl rand -hex 24)";
    vec![Check::fail(NAME, format!("one of the example files is in use: {}", known.join(", ")), advice)]
}

/// What may be a password in a URL: before the host, or as a parameter.
fn passwords(url: &str) -> Vec<String> {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    let login = rest.rsplit_once('@').map(|(login, _)| login);
    let password = login.and_then(|login| login.split_once(':')).map(|(_, password)| password);
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let parameters = query.split('&').filter_map(|pair| pair.strip_prefix("password="));
    password.into_iter().chain(parameters).map(str::to_owned).collect()
}

fn is_example(password: &str) -> bool {
    let lower = password.to_ascii_lowercase();
    lower.strip_prefix(EXAMPLE).is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;
    use crate::settings::Section;

    fn of(settings: &[(&str, &str, &str)]) -> Vec<Check> {
        let mut config = Config::default();
        for (section, key, value) in settings {
            let table: &mut dyn Section = match *section {
                "database" => &mut config.database,
                "redis" => &mut config.redis,
                "broker" => &mut config.broker,
                _ => &mut config.cold,
            };
            table.set(key, toml::Value::from(*value)).unwrap();
        }
        checks(&config)
    }

    #[test]
    fn a_password_of_the_example_files_is_a_failure_wherever_it_stands() {
        for (section, key, value) in [
            ("database", "url", "postgres://mailroom:changeme@db/mail"),
            ("database", "url", "postgres://db/mail?user=mailroom&password=changeme1"),
            ("redis", "url", "redis://:changeme3@redis:6379/"),
            ("redis", "url", "redis://:good@a, redis://:changeme@b"),
            ("broker", "url", "amqp://mailroom:ChangeMe4@rabbitmq:5672/%2f"),
            ("cold", "access_key_id", "changeme"),
            ("cold", "secret_access_key", "changeme"),
        ] {
            let found = of(&[(section, key, value)]);
            assert_eq!((found.len(), found[0].level), (1, Level::Fail), "{value}");
            assert!(found[0].found.contains(&format!("[{section}] {key}")), "{found:?}");
            assert!(!found[0].found.to_lowercase().contains("changeme"), "{found:?}");
        }
    }

    #[test]
    fn passwords_of_ones_own_are_well_and_none_at_all_is_nothing_to_say() {
        assert_eq!(of(&[]), []);
        assert_eq!(of(&[("database", "url", "postgres://mailroom@changeme/changeme")]), []);
        let own = of(&[
            ("database", "url", "postgres://changeme:d1f0@db/mail"),
            ("redis", "url", "redis://:changemesoon@redis:6379/"),
        ]);
        assert_eq!((own.len(), own[0].level), (1, Level::Ok));
    }

    #[test]
    fn every_password_of_the_example_files_is_known() {
        let files = [
            include_str!("../../../deploy/.env.example"),
            include_str!("../../../deploy/kubernetes/secret.example.yaml"),
        ];
        let mut seen = 0;
        for line in files.iter().flat_map(|file| file.lines()) {
            if let Some((_, password)) = line.split_once("_PASSWORD=") {
                assert!(is_example(password), "{line}");
                seen += 1;
            }
            for found in line.split(['\'', '"', ' ']).flat_map(passwords) {
                assert!(is_example(&found), "{line}");
                seen += 1;
            }
        }
        assert!(seen >= 12, "{seen}");
    }
}
