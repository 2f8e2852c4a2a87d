//! The Prometheus recorder: where every counter, gauge and histogram of the process ends up.
//!
//! Installed without a listener of its own; `ops` renders it at `/metrics`. Buckets go by the unit at the end of a
//! metric's name, so that a stage names its histogram rightly and needs nothing else.

use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// 50 µs to 10 s: a final dot is answered in about a millisecond, a slow disk takes hundreds.
const SECONDS: [f64; 17] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// 256 B to 64 MiB, in steps of four.
const BYTES: [f64; 10] =
    [256.0, 1_024.0, 4_096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0, 4_194_304.0, 16_777_216.0, 67_108_864.0];

/// Everything else is a count: messages in a batch, recipients of a message.
const COUNTS: [f64; 10] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0];

/// How often histograms are moved from their lock-free buffers into buckets; between scrapes these grow.
const UPKEEP: Duration = Duration::from_secs(5);

/// The installed recorder.
#[derive(Clone)]
pub struct Recorder(PrometheusHandle);

impl Recorder {
    /// Makes it the process's recorder and names what the stages count.
    ///
    /// # Errors
    /// A recorder is installed already.
    pub fn install() -> anyhow::Result<Self> {
        let recorder = Self(builder()?.install_recorder()?);
        super::describe_stages();
        Ok(recorder)
    }

    /// One that nothing reports to, for tests of what renders it.
    ///
    /// # Errors
    /// The buckets are not valid.
    pub fn detached() -> anyhow::Result<Self> {
        Ok(Self(builder()?.build_recorder().handle()))
    }

    /// The exposition text of everything recorded.
    #[must_use]
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Keeps the recorder's memory bounded; runs until the process ends, so it is spawned once.
    pub async fn upkeep(self) {
        let mut every = tokio::time::interval(UPKEEP);
        loop {
            every.tick().await;
            self.0.run_upkeep();
        }
    }
}

fn builder() -> anyhow::Result<PrometheusBuilder> {
    let builder = PrometheusBuilder::new()
        .set_buckets(&COUNTS)?
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_bytes".into()), &BYTES)?;
    Ok(builder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_the_unit_in_the_name() {
        let recorder = builder().unwrap().build_recorder();
        let rendered = metrics::with_local_recorder(&recorder, || {
            metrics::histogram!("commit_duration_seconds").record(0.002);
            metrics::histogram!("message_size_bytes").record(10_000.0);
            metrics::histogram!("batch_messages").record(37.0);
            recorder.handle().render()
        });
        for line in [
            "commit_duration_seconds_bucket{le=\"0.0025\"} 1",
            "commit_duration_seconds_bucket{le=\"0.001\"} 0",
            "message_size_bytes_bucket{le=\"16384\"} 1",
            "batch_messages_bucket{le=\"50\"} 1",
        ] {
            assert!(rendered.contains(line), "{line} is not in\n{rendered}");
        }
    }
}
