//! The final words: percentiles and a histogram for people, one JSON object for machines.

use std::fmt::Write as _;
use std::io::Write as _;

use serde_json::{Map, Value, json};

use super::meter::Latencies;
use super::run::Outcome;

/// The width of the longest bar.
const BAR: u64 = 40;

/// Prints the outcome on standard output. `what` names the unit of work; `extra` joins the JSON object and is listed.
///
/// # Errors
/// Standard output cannot be written.
pub fn print(what: &str, outcome: &Outcome, extra: Map<String, Value>, json: bool) -> std::io::Result<()> {
    let text = if json { format!("{}\n", as_json(what, outcome, extra)) } else { as_text(what, outcome, &extra) };
    std::io::stdout().lock().write_all(text.as_bytes())
}

fn as_json(what: &str, outcome: &Outcome, extra: Map<String, Value>) -> Value {
    let seconds = outcome.elapsed.as_secs_f64();
    let mut object = json!({
        "what": what,
        "done": outcome.totals.done,
        "failed": outcome.totals.failed(),
        "failures": outcome.totals.failures,
        "seconds": seconds,
        "per_second": outcome.totals.done as f64 / seconds.max(1e-9),
        "bytes": outcome.totals.bytes,
        "latency_ms": latency_json(&outcome.latencies),
    });
    if let Some(object) = object.as_object_mut() {
        object.extend(extra);
    }
    object
}

/// Mean and percentiles in milliseconds.
pub fn latency_json(latencies: &Latencies) -> Value {
    let at = |quantile: f64| latencies.value_at_quantile(quantile) as f64 / 1_000.0;
    json!({
        "count": latencies.len(),
        "mean": (latencies.mean() * 10.0).round() / 10_000.0,
        "p50": at(0.5),
        "p90": at(0.9),
        "p99": at(0.99),
        "p999": at(0.999),
        "max": latencies.max() as f64 / 1_000.0,
    })
}

fn as_text(what: &str, outcome: &Outcome, extra: &Map<String, Value>) -> String {
    let (seconds, totals) = (outcome.elapsed.as_secs_f64(), &outcome.totals);
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{} {what} in {seconds:.2} s: {:.0}/s, {:.1} MB/s, {} failed",
        totals.done,
        totals.done as f64 / seconds.max(1e-9),
        totals.bytes as f64 / seconds.max(1e-9) / 1e6,
        totals.failed()
    );
    for (kind, count) in &totals.failures {
        let _ = writeln!(out, "  failed {count:>8}  {kind}");
    }
    for (name, value) in extra {
        let _ = writeln!(out, "  {name}: {value}");
    }
    push_latencies(&mut out, &outcome.latencies);
    out
}

fn push_latencies(out: &mut String, latencies: &Latencies) {
    if latencies.is_empty() {
        return;
    }
    let ms = |micros: u64| micros as f64 / 1_000.0;
    let _ = write!(out, "latency ms: mean {:.2}", latencies.mean() / 1_000.0);
    for (name, quantile) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)] {
        let _ = write!(out, "  {name} {:.2}", ms(latencies.value_at_quantile(quantile)));
    }
    let _ = writeln!(out, "  max {:.2}", ms(latencies.max()));
    let rows: Vec<_> = latencies
        .iter_log(100, 2.0)
        .map(|step| (step.value_iterated_to(), step.count_since_last_iteration()))
        .skip_while(|(_, count)| *count == 0)
        .collect();
    let most = rows.iter().map(|(_, count)| *count).max().unwrap_or(1).max(1);
    for (micros, count) in rows {
        let bar = "#".repeat(usize::try_from(count * BAR / most).unwrap_or(0));
        let _ = writeln!(out, "  <= {:>9.2} ms {count:>9} {bar}", ms(micros + 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::stress::meter::{Totals, latencies};
    use std::time::Duration;

    fn outcome() -> Outcome {
        let mut all = latencies();
        for micros in [200, 300, 400, 90_000] {
            all.record(micros).unwrap();
        }
        let failures = [("421".to_owned(), 2)].into();
        let totals = Totals { done: 4, bytes: 4_000, open: 0, failures };
        Outcome { elapsed: Duration::from_secs(2), totals, latencies: all }
    }

    #[test]
    fn people_see_rate_percentiles_failures_and_bars() {
        let text = as_text("messages", &outcome(), &Map::new());
        assert!(text.starts_with("4 messages in 2.00 s: 2/s, 0.0 MB/s, 2 failed\n"), "{text}");
        assert!(text.contains("failed        2  421"), "{text}");
        assert!(text.contains("p50 0.30"), "{text}");
        assert!(text.contains('#'), "{text}");
    }

    #[test]
    fn machines_get_one_object() {
        let extra = json!({"mailboxes": 5}).as_object().cloned().unwrap();
        let value = as_json("messages", &outcome(), extra);
        assert_eq!(value["per_second"], 2.0);
        assert_eq!(value["failures"]["421"], 2);
        assert_eq!(value["mailboxes"], 5);
        assert!(value["latency_ms"]["max"].as_f64().unwrap() >= 90.0);
    }
}
