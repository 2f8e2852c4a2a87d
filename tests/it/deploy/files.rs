//! Compose, Kubernetes, Prometheus and Grafana: valid for their own tools, and true to this program.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use mailroom::config::Config;
use serde_json::Value;

use super::{program, root, run};

fn deploy(path: &str) -> PathBuf {
    root().join("deploy").join(path)
}

/// The documents of a YAML text, read by a YAML library.
fn yaml(text: &str) -> Vec<Value> {
    let script = "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(sys.argv[1])), default=str))";
    let mut python = program("python3");
    serde_json::from_str(&run(python.args(["-c", script, text]))).unwrap()
}

fn yaml_file(path: &Path) -> Vec<Value> {
    yaml(&fs::read_to_string(path).unwrap())
}

/// What the compose file means with the example's passwords.
fn compose() -> Value {
    compose_with(&[])
}

/// The same with some of the example's variables changed.
fn compose_with(changed: &[(&str, &str)]) -> Value {
    let mut compose = program("docker-compose");
    compose.arg("-f").arg(deploy("compose.yml")).arg("--env-file").arg(deploy(".env.example")).arg("config");
    let said = compose.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", "/tmp");
    let said = said.envs(changed.iter().copied()).output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    yaml(&String::from_utf8_lossy(&said.stdout)).remove(0)
}

fn kubernetes() -> Vec<(PathBuf, Value)> {
    let mut files: Vec<_> = fs::read_dir(deploy("kubernetes")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 6, "{files:?}");
    files.into_iter().flat_map(|file| yaml_file(&file).into_iter().map(move |value| (file.clone(), value))).collect()
}

fn of_kind<'a>(documents: &'a [(PathBuf, Value)], kind: &str) -> Vec<&'a Value> {
    documents.iter().map(|(_, value)| value).filter(|value| value["kind"] == kind).collect()
}

/// What `mailroom config check` says of these variables.
fn config_check(variables: &BTreeMap<String, String>) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mailroom"));
    command.args(["config", "check"]).env_clear().envs(variables);
    let said = run(&mut command);
    assert!(said.contains("ok: "), "{said}");
    said
}

fn strings(value: &Value) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    value.as_object().expect("a map").iter().map(|(name, value)| (name.clone(), text(value))).collect()
}

/// "40s" as a number.
fn seconds(text: &str) -> u64 {
    let number: String = text.chars().take_while(char::is_ascii_digit).collect();
    let factor = if text.trim_start_matches(|c: char| c.is_ascii_digit()).starts_with('m') { 60 } else { 1 };
    number.parse::<u64>().unwrap_or_else(|_| panic!("{text}")) * factor
}

fn default_stop() -> (u64, u64) {
    let runtime = Config::default().runtime;
    (runtime.drain.0.as_secs(), runtime.stop_within.0.as_secs())
}

#[test]
fn the_compose_file_is_valid_and_its_settings_are_known() {
    let compose = compose();
    let services = compose["services"].as_object().unwrap();
    let names: Vec<_> = services.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "grafana",
            "nginx",
            "node1",
            "node2",
            "node3",
            "postgres",
            "postgres-replica",
            "prometheus",
            "rabbitmq",
            "redis"
        ]
    );
    for node in ["node1", "node2", "node3"] {
        let node = &services[node];
        let said = config_check(&strings(&node["environment"]));
        assert!(!said.contains("warning: MAILROOM") && !said.contains("is everyone"), "{said}");
        assert!(seconds(node["stop_grace_period"].as_str().unwrap()) > default_stop().1);
        assert_eq!(node["read_only"], true);
    }
    // With everything that the example leaves empty.
    let stored = [
        ("COLD_URL", "s3://mail-archive/bodies"),
        ("COLD_AFTER", "30d"),
        ("COLD_ENDPOINT", "https://minio.example:9000"),
        ("COLD_ACCESS_KEY_ID", "key"),
        ("COLD_SECRET_ACCESS_KEY", "secret"),
    ];
    let node = &compose_with(&stored)["services"]["node1"]["environment"];
    assert_eq!((&node["MAILROOM__COLD__URL"], &node["MAILROOM__COLD__AFTER"]), (&stored[0].1.into(), &"30d".into()));
    config_check(&strings(node));
    // Whom the nodes believe is nginx, and nginx alone.
    let nginx = services["nginx"]["networks"]["cluster"]["ipv4_address"].as_str().unwrap();
    let environment = strings(&services["node1"]["environment"]);
    for name in ["MAILROOM__HTTP__TRUSTED_PROXIES", "MAILROOM__SMTP__PROXY_PROTOCOL_FROM"] {
        assert_eq!(environment[name], nginx, "{name}");
    }
    // Users are told where nginx is, not where a node listens.
    assert_eq!(environment["MAILROOM__SMTP__PUBLIC_ADDRESS"], "mail.example.com:25");
    let moved = &compose_with(&[("SMTP_PORT", "2626")])["services"];
    assert_eq!(moved["node1"]["environment"]["MAILROOM__SMTP__PUBLIC_ADDRESS"], "mail.example.com:2626");
    assert!(moved["nginx"]["ports"].to_string().contains("2626"), "{}", moved["nginx"]["ports"]);
    // What is mounted is there.
    let text = fs::read_to_string(deploy("compose.yml")).unwrap();
    let mounted =
        text.lines().filter_map(|line| line.trim().strip_prefix("- ")?.split_once(":/").map(|(from, _)| from));
    let mounted: Vec<_> = mounted.filter(|from| from.starts_with('.') && *from != "./tls").collect();
    assert!(mounted.len() >= 5, "{mounted:?}");
    for from in mounted {
        assert!(deploy(from).exists(), "{from}");
    }
}

#[test]
fn every_variable_of_the_compose_file_has_a_place_in_the_example() {
    let text = fs::read_to_string(deploy("compose.yml")).unwrap();
    let example = fs::read_to_string(deploy(".env.example")).unwrap();
    let mut found = 0;
    for part in text.split("${").skip(1) {
        let name: String = part.chars().take_while(|c| c.is_ascii_uppercase() || *c == '_').collect();
        assert!(example.lines().any(|line| line.starts_with(&format!("{name}="))), "{name}");
        found += 1;
    }
    assert!(found > 10);
}

#[test]
fn nginx_and_the_compose_file_name_the_same_nodes() {
    let compose = compose();
    for (file, port) in [("nodes-http.conf", 8080), ("nodes-smtp.conf", 2525)] {
        let text = fs::read_to_string(root().join("nginx").join(file)).unwrap();
        let nodes: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("server ")?.split(' ').next()).collect();
        assert_eq!(nodes, [1, 2, 3].map(|n| format!("node{n}:{port}")), "{file}");
        for node in nodes {
            assert!(compose["services"].get(node.split(':').next().unwrap()).is_some(), "{node}");
        }
    }
}

#[test]
fn nginx_leaves_idle_connections_before_a_node_does() {
    let text = fs::read_to_string(root().join("nginx/http.conf")).unwrap();
    let upstreams: Vec<_> = text.split("upstream ").skip(1).map(|part| part.split('}').next().unwrap()).collect();
    assert_eq!(upstreams.len(), 2);
    for upstream in upstreams {
        let idle = upstream.split("keepalive_timeout ").nth(1).map(seconds).expect("a limit");
        assert!(idle < default_stop().0, "{upstream}");
    }
    let site = fs::read_to_string(root().join("nginx/site.conf")).unwrap();
    let wait = site.split("messages/wait$").nth(1).and_then(|part| part.split("proxy_read_timeout ").nth(1));
    assert!(seconds(wait.unwrap()) > 300, "a call may wait for 5 minutes");
}

#[test]
fn the_manifests_are_valid_and_their_settings_are_known() {
    let documents = kubernetes();
    let home = std::env::var("HOME").unwrap_or_default();
    let tools = std::env::var("MAILROOM_TEST_TOOLS").unwrap_or_else(|_| format!("{home}/.cache/mailroom-tools"));
    let validate = PathBuf::from(tools).join("kubernetes-validate/bin/kubernetes-validate");
    assert!(validate.exists(), "{} is missing: run scripts/setup.sh", validate.display());
    let files: BTreeSet<_> = documents.iter().map(|(file, _)| file).collect();
    // The newest schemas, and the oldest version that is not out of support anywhere.
    for version in [None, Some("1.31")] {
        let mut command = Command::new(&validate);
        command.arg("--strict");
        command.args(version.map(|version| ["-k", version]).into_iter().flatten());
        run(command.args(&files));
    }
    assert!(documents.iter().all(|(_, value)| value["metadata"].get("namespace").is_none()));

    let mut variables = strings(&of_kind(&documents, "ConfigMap")[0]["data"]);
    variables.extend(strings(&of_kind(&documents, "Secret")[0]["stringData"]));
    config_check(&variables);
    for section in ["DATABASE", "REDIS", "BROKER"] {
        assert!(variables.contains_key(&format!("MAILROOM__{section}__URL")), "{section}");
    }

    // What is there as a comment holds, too, all of it together.
    let mut offered = BTreeMap::new();
    for file in ["configmap.yaml", "secret.example.yaml"] {
        let text = fs::read_to_string(deploy("kubernetes").join(file)).unwrap();
        let comments = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("# "))
            .filter(|line| line.split_once(": ").is_some_and(|(name, _)| name.starts_with("MAILROOM__")));
        let comments: Vec<_> = comments.collect();
        assert!(comments.len() > 5, "{file}");
        offered.extend(strings(&yaml(&comments.join("\n"))[0]));
    }
    for name in ["REDIS__CA_FILE", "BROKER__CA_FILE", "COLD__CA_FILE", "COLD__URL", "COLD__SECRET_ACCESS_KEY"] {
        assert!(offered.contains_key(&format!("MAILROOM__{name}")), "{name}");
    }
    let container = &of_kind(&documents, "Deployment")[0]["spec"]["template"]["spec"]["containers"][0];
    let mounted: Vec<_> = container["volumeMounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|mount| mount["mountPath"].as_str().unwrap())
        .collect();
    for (name, value) in &offered {
        let path = value.split_once("sslrootcert=").map_or(value.as_str(), |(_, path)| path);
        let is_file = name.ends_with("_FILE") || value.contains("sslrootcert=");
        assert!(!is_file || mounted.iter().any(|mount| path.starts_with(mount)), "{name}: {path} is not mounted");
    }
    variables.extend(offered);
    config_check(&variables);
}

#[test]
fn the_manifests_fit_each_other_and_the_program() {
    let documents = kubernetes();
    let settings = strings(&of_kind(&documents, "ConfigMap")[0]["data"]);
    let deployment = of_kind(&documents, "Deployment")[0];
    let pod = &deployment["spec"]["template"];
    let container = &pod["spec"]["containers"][0];

    let grace = pod["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap();
    let (drain, stop) =
        (seconds(&settings["MAILROOM__RUNTIME__DRAIN"]), seconds(&settings["MAILROOM__RUNTIME__STOP_WITHIN"]));
    assert!(drain * 2 <= stop && stop < grace, "{drain} {stop} {grace}");
    assert_eq!(container["env"][0]["name"], "TERMINATION_GRACE_SECONDS");
    assert_eq!(container["env"][0]["value"], grace.to_string());
    // Found unready, and taken out, well before the port is closed.
    let probe = &container["readinessProbe"];
    let noticed = probe["periodSeconds"].as_u64().unwrap() * probe["failureThreshold"].as_u64().unwrap();
    assert!(noticed < drain, "{noticed} s");

    let labels = pod["metadata"]["labels"].as_object().unwrap();
    let chosen =
        |selector: &Value| selector.as_object().unwrap().iter().all(|(name, value)| labels.get(name) == Some(value));
    let ports = container["ports"].as_array().unwrap();
    let services = of_kind(&documents, "Service");
    assert_eq!(services.len(), 2);
    for service in services {
        assert!(chosen(&service["spec"]["selector"]));
        let target = &service["spec"]["ports"][0]["targetPort"];
        assert!(ports.iter().any(|port| port["name"] == *target), "{target}");
    }
    assert!(chosen(&of_kind(&documents, "PodDisruptionBudget")[0]["spec"]["selector"]["matchLabels"]));
    assert!(chosen(&deployment["spec"]["selector"]["matchLabels"]));
    let scaled = &of_kind(&documents, "HorizontalPodAutoscaler")[0]["spec"]["scaleTargetRef"];
    assert_eq!((&scaled["kind"], &scaled["name"]), (&deployment["kind"], &deployment["metadata"]["name"]));

    for (setting, name) in [("SMTP__LISTEN", "smtp"), ("HTTP__LISTEN", "http"), ("OPS__LISTEN", "ops")] {
        let port = ports.iter().find(|port| port["name"] == name).unwrap()["containerPort"].to_string();
        assert!(settings[&format!("MAILROOM__{setting}")].contains(&format!("0.0.0.0:{port}")), "{setting}");
    }
    assert_eq!(pod["metadata"]["annotations"]["prometheus.io/port"], "8025");
    let port =
        of_kind(&documents, "Service").into_iter().find(|service| service["metadata"]["name"] == "mailroom-smtp");
    let port = &port.unwrap()["spec"]["ports"][0]["port"];
    assert_eq!(settings["MAILROOM__SMTP__PUBLIC_ADDRESS"], format!("mail.example.com:{port}"));
}

#[test]
fn nobody_but_the_nodes_reaches_the_databases_and_nobody_but_the_ingress_the_nodes() {
    let documents = kubernetes();
    let pod = &of_kind(&documents, "Deployment")[0]["spec"]["template"];
    let (name, labels) = ("app.kubernetes.io/name", &pod["metadata"]["labels"]);
    let policies = of_kind(&documents, "NetworkPolicy");
    let [nodes, databases] = policies[..] else { panic!("two of them: {policies:?}") };
    for policy in [nodes, databases] {
        assert_eq!(policy["spec"]["policyTypes"], serde_json::json!(["Ingress"]));
    }
    // The nodes, by the names of their ports: each once, none for everybody but that of SMTP.
    assert_eq!(nodes["spec"]["podSelector"]["matchLabels"][name], labels[name]);
    let container = &pod["spec"]["containers"][0];
    let mut open: BTreeSet<&str> =
        container["ports"].as_array().unwrap().iter().filter_map(|port| port["name"].as_str()).collect();
    for rule in nodes["spec"]["ingress"].as_array().unwrap() {
        let ports = rule["ports"].as_array().unwrap();
        assert_eq!(ports.len(), 1);
        let port = ports[0]["port"].as_str().unwrap();
        assert!(open.remove(port), "{port} is no port of the pod, or there twice");
        let from = rule["from"].as_array().unwrap();
        assert!(!from.is_empty(), "nobody named is everybody");
        for peer in from {
            let one_namespace = &peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"];
            assert!(one_namespace.is_string() || (port == "smtp" && peer["ipBlock"].is_object()), "{port}: {peer}");
        }
    }
    assert!(open.is_empty(), "{open:?}");
    // The pods' network is the same example everywhere.
    let settings = strings(&of_kind(&documents, "ConfigMap")[0]["data"]);
    let pods = nodes["spec"]["ingress"][1]["from"][0]["ipBlock"]["except"].clone();
    assert_eq!(serde_json::from_str::<Value>(&settings["MAILROOM__HTTP__TRUSTED_PROXIES"]).unwrap(), pods);
    // Everything that is no node, by nodes at the ports that the URLs name, and by one another.
    let others = &serde_json::json!([{"key": name, "operator": "NotIn", "values": [labels[name]]}]);
    assert_eq!(databases["spec"]["podSelector"]["matchExpressions"], *others);
    let rules = databases["spec"]["ingress"].as_array().unwrap();
    assert_eq!(rules.len(), 2);
    assert_eq!(rules[0]["from"], serde_json::json!([{"podSelector": {"matchLabels": {name: labels[name]}}}]));
    assert_eq!(rules[1]["from"], serde_json::json!([{"podSelector": {"matchExpressions": others}}]));
    let ports: BTreeSet<u64> =
        rules[0]["ports"].as_array().unwrap().iter().filter_map(|port| port["port"].as_u64()).collect();
    assert_eq!(ports, BTreeSet::from([3306, 5432, 5671, 5672, 6379]));
    let secret = fs::read_to_string(deploy("kubernetes/secret.example.yaml")).unwrap();
    for port in ["6379", "5672", "5671"] {
        assert!(secret.contains(&format!(":{port}/")), "{port}");
    }
}

/// What a service that anyone can reach must bound.
#[test]
fn both_patterns_limit_what_one_client_network_may_do() {
    let compose = compose();
    let of_compose = strings(&compose["services"]["node1"]["environment"]);
    let of_kubernetes = strings(&of_kind(&kubernetes(), "ConfigMap")[0]["data"]);
    for settings in [of_compose, of_kubernetes] {
        for what in ["REQUESTS", "CONNECTIONS", "MESSAGES"] {
            let rate = &settings[&format!("MAILROOM__LIMITS__{what}")];
            assert!(rate.strip_suffix("/s").is_some_and(|rate| rate.parse::<u32>().unwrap() > 0), "{what}: {rate}");
        }
        // As many as nginx lets through.
        let nginx = fs::read_to_string(root().join("nginx/http.conf")).unwrap();
        let rate = settings["MAILROOM__LIMITS__REQUESTS"].replace("/s", "r/s");
        assert!(nginx.contains(&format!("zone=requests:16m rate={rate};")), "{rate}");
        let site = fs::read_to_string(root().join("nginx/site.conf")).unwrap();
        let burst = &settings["MAILROOM__LIMITS__REQUESTS_BURST"];
        assert!(site.contains(&format!("zone=requests burst={burst} ")), "{burst}");
    }
}

/// Names of everything that the program counts, from where they stand.
fn metrics() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.file_name().and_then(|name| name.to_str()) {
                _ if path.is_dir() => folders.push(path),
                Some("metrics.rs") => {
                    let text = fs::read_to_string(path).unwrap();
                    let names = text.lines().filter(|line| line.contains(": &str = \""));
                    found.extend(names.filter_map(|line| line.split('"').nth(1).map(str::to_owned)));
                }
                Some("process.rs") => {
                    let text = fs::read_to_string(path).unwrap();
                    found.extend(
                        text.split("add(\"").skip(1).filter_map(|part| part.split('"').next().map(str::to_owned)),
                    );
                }
                _ => {}
            }
        }
    }
    assert!(found.len() > 40 && found.contains("process_open_fds") && found.contains("http_requests_total"));
    found
}

/// The metrics that an expression names: words with an underscore outside of quotes that are neither functions nor labels.
pub fn named(expression: &str) -> Vec<String> {
    let outside: String = expression.split('"').step_by(2).collect::<Vec<_>>().join(" ");
    let words = outside.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let is_metric = |word: &&str| {
        word.contains('_') && !word.starts_with("__") && !["histogram_quantile", "label_values"].contains(word)
    };
    let bare = |word: &str| {
        let suffix = ["_bucket", "_sum", "_count"].into_iter().find_map(|suffix| word.strip_suffix(suffix));
        suffix.unwrap_or(word).to_owned()
    };
    words.filter(is_metric).map(bare).collect()
}

#[test]
fn rules_and_scraping_are_valid_and_the_alerts_fire() {
    let directory = deploy("prometheus");
    for arguments in
        [["check", "config", "prometheus.yml"], ["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]]
    {
        run(program("promtool").current_dir(&directory).args(arguments));
    }
    let scraped = &yaml_file(&directory.join("prometheus.yml"))[0]["scrape_configs"][0];
    assert_eq!(scraped["static_configs"][0]["targets"], serde_json::json!(["node1:8025", "node2:8025", "node3:8025"]));
    let allowed = compose()["services"]["node1"]["environment"]["MAILROOM__HTTP__ALLOWED_HOSTS"].to_string();
    assert!(["node1", "node2", "node3"].iter().all(|node| allowed.contains(node)), "{allowed}");
}

/// Every expression of rules and dashboard.
pub fn expressions() -> Vec<String> {
    let rules = yaml_file(&deploy("prometheus/alerts.yml")).remove(0);
    let mut expressions: Vec<String> = Vec::new();
    for rule in rules["groups"][0]["rules"].as_array().unwrap() {
        assert!(["page", "ticket"].contains(&rule["labels"]["severity"].as_str().unwrap()), "{rule}");
        assert!(rule["annotations"]["description"].is_string(), "{rule}");
        expressions.push(rule["expr"].as_str().unwrap().to_owned());
    }
    let dashboard: Value =
        serde_json::from_str(&fs::read_to_string(deploy("grafana/dashboards/mailroom.json")).unwrap()).unwrap();
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "an id is there twice");
        for target in panel["targets"].as_array().into_iter().flatten() {
            expressions.push(target["expr"].as_str().unwrap().to_owned());
        }
    }
    expressions
}

#[test]
fn alerts_and_dashboard_are_about_metrics_that_exist() {
    let metrics = metrics();
    let mut seen = BTreeSet::new();
    for expression in expressions() {
        for name in named(&expression) {
            assert!(metrics.contains(&name), "{name}: {expression}");
            seen.insert(name);
        }
    }
    assert!(seen.len() > 60, "{seen:?}");
    // What nodes share is watched whole.
    for name in
        metrics.iter().filter(|name| ["redis_", "broker_", "store_replica_"].iter().any(|of| name.starts_with(of)))
    {
        assert!(seen.contains(name), "nobody looks at {name}");
    }
    let source = &yaml_file(&deploy("grafana/provisioning/datasources/prometheus.yml"))[0]["datasources"][0];
    assert_eq!(source["uid"], "prometheus");
}

#[test]
fn metrics_are_found_in_expressions() {
    assert_eq!(
        named(r#"histogram_quantile(0.9, sum by (le) (rate(a_b_bucket{x="c_d"}[$__rate_interval]))) / up + e_f_total"#),
        ["a_b", "e_f_total"]
    );
}

#[test]
fn the_scripts_of_the_replica_are_shell() {
    for script in ["primary.sh", "replica.sh"] {
        run(program("sh").arg("-n").arg(deploy("postgres").join(script)));
    }
}
