//! What health means: the parts of the process, each well or not, and whether the whole takes work.

use serde::Serialize;
use serde_json::{Map, Value};

/// Where the process is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Recovering and opening; not ready.
    Starting,
    Running,
    /// Told to stop: finishing what was promised, taking nothing new; not ready.
    Draining,
}

/// The state of one part, as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    pub name: &'static str,
    /// Why it is not well; `None` when it is.
    pub trouble: Option<String>,
    /// Without it the process takes no work: `/health/ready` answers 503.
    pub required: bool,
    /// Figures for a person who looks.
    pub detail: Map<String, Value>,
}

/// Who knows how the parts are. Called for every request, so it reads atomics and never waits.
pub trait Probe: Send + Sync + 'static {
    fn phase(&self) -> Phase;
    fn parts(&self) -> Vec<Part>;
    /// Sets the gauges that are read only when someone looks: queue depths, free disk space, index lag.
    fn refresh_metrics(&self);
}

impl Part {
    /// A part that is well, or not for the reason given.
    #[must_use]
    pub fn new(name: &'static str, required: bool, trouble: Option<String>) -> Self {
        Self { name, trouble, required, detail: Map::new() }
    }

    /// With one more figure.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.detail.insert(key.into(), value.into());
        self
    }
}

/// Why the process takes no work; empty when it does.
#[must_use]
pub fn not_ready(phase: Phase, parts: &[Part]) -> Vec<String> {
    let phase = match phase {
        Phase::Starting => Some("starting".to_owned()),
        Phase::Draining => Some("draining: the server is stopping".to_owned()),
        Phase::Running => None,
    };
    let troubles = parts.iter().filter(|part| part.required).filter_map(|part| {
        let trouble = part.trouble.as_ref()?;
        Some(format!("{}: {trouble}", part.name))
    });
    phase.into_iter().chain(troubles).collect()
}

/// The body of `/health`.
#[must_use]
pub fn summary(phase: Phase, parts: &[Part], uptime_seconds: u64) -> Value {
    let status = match phase {
        Phase::Running if parts.iter().all(|part| part.trouble.is_none()) => "ok",
        Phase::Running if parts.iter().any(|part| part.required && part.trouble.is_some()) => "failing",
        Phase::Running => "degraded",
        Phase::Starting => "starting",
        Phase::Draining => "draining",
    };
    let parts: Map<String, Value> = parts.iter().map(|part| (part.name.to_owned(), part_value(part))).collect();
    serde_json::json!({
        "status": status,
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": uptime_seconds,
        "parts": parts,
    })
}

fn part_value(part: &Part) -> Value {
    let mut value = part.detail.clone();
    value.insert("ok".into(), part.trouble.is_none().into());
    if let Some(trouble) = &part.trouble {
        value.insert("trouble".into(), trouble.clone().into());
    }
    value.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(store: Option<&str>, disk: Option<&str>) -> Vec<Part> {
        vec![
            Part::new("store", true, store.map(Into::into)).with("queued", 3),
            Part::new("disk", false, disk.map(Into::into)),
        ]
    }

    #[test]
    fn ready_only_while_running_with_every_required_part_well() {
        assert!(not_ready(Phase::Running, &parts(None, None)).is_empty());
        assert!(not_ready(Phase::Running, &parts(None, Some("nearly full"))).is_empty());
        assert_eq!(not_ready(Phase::Running, &parts(Some("away"), None)), ["store: away"]);
        assert_eq!(not_ready(Phase::Starting, &parts(None, None)), ["starting"]);
        assert_eq!(not_ready(Phase::Draining, &parts(Some("away"), None)).len(), 2);
    }

    #[test]
    fn the_summary_tells_degraded_from_failing() {
        let status = |phase, parts: &[Part]| summary(phase, parts, 1)["status"].as_str().unwrap().to_owned();
        assert_eq!(status(Phase::Running, &parts(None, None)), "ok");
        assert_eq!(status(Phase::Running, &parts(None, Some("nearly full"))), "degraded");
        assert_eq!(status(Phase::Running, &parts(Some("away"), None)), "failing");
        assert_eq!(status(Phase::Starting, &[]), "starting");
        let body = summary(Phase::Running, &parts(Some("away"), None), 7);
        assert_eq!(body["parts"]["store"], serde_json::json!({"ok": false, "trouble": "away", "queued": 3}));
        assert_eq!(body["uptime_seconds"], 7);
    }
}
