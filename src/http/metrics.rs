//! What the operator can watch: counters and a histogram in Prometheus' text format.
//!
//! Never: a label whose values a caller can choose; the memory of the server would be theirs.

use prometheus::{
    Counter, Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts,
    Registry, TextEncoder, core::Collector,
};

use crate::{
    keys::{
        revocation::{CycleOutcome, Figures},
        usage::StatusClass,
    },
    leaks::figures::{Dealt, FINDERS},
    services::Services,
};

/// The instruments. Each is looked up once, here, and costs an atomic addition from then on.
pub struct Metrics {
    registry: Registry,
    by_class: [IntCounter; 7],
    refused: [IntCounter; RefusedBecause::ALL.len()],
    /// Requests beyond fair use, whether or not they were refused.
    pub over_limit: IntCounter,
    /// From the end of a request's headers to the end of its answer's, in seconds.
    pub request_seconds: Histogram,
    keys: IntGauge,
    epoch: IntGauge,
    uncounted: IntGauge,
    cycles: [IntCounter; 3],
    asked_primary: [IntCounter; 2],
    lapsed_seconds: Counter,
    leak_reports: [[IntCounter; Dealt::ALL.len()]; FINDERS.len()],
    github_fetches: [IntCounter; 2],
    trusted: IntGauge,
    epochs_behind: IntGauge,
    nodes: IntGauge,
}

/// Why a request was refused before it reached a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedBecause {
    /// No key.
    Missing,
    /// Not a key.
    Malformed,
    /// Not a key of ours.
    Unknown,
    /// A dead key.
    Revoked,
    /// A key that waits for its cut-over.
    Staged,
    /// A good key that may not do this.
    Forbidden,
    /// This node could not know.
    CannotKnow,
}

impl RefusedBecause {
    const ALL: [Self; 7] = [
        Self::Missing,
        Self::Malformed,
        Self::Unknown,
        Self::Revoked,
        Self::Staged,
        Self::Forbidden,
        Self::CannotKnow,
    ];

    /// Its name in the label `reason`.
    fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::Unknown => "unknown",
            Self::Revoked => "revoked",
            Self::Staged => "staged",
            Self::Forbidden => "forbidden",
            Self::CannotKnow => "cannot_know",
        }
    }
}

impl Metrics {
    /// Fresh instruments.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let requests = IntCounterVec::new(
            Opts::new(
                "truckradar_requests_total",
                "Requests under /api/v1/, by the class of their answer",
            ),
            &["class"],
        )?;
        let refused = IntCounterVec::new(
            Opts::new(
                "truckradar_refused_total",
                "Requests whose key was not accepted, by reason",
            ),
            &["reason"],
        )?;
        let cycles = IntCounterVec::new(
            Opts::new(
                "truckradar_cycles_total",
                "On PostgreSQL: cycles by which this node renews its trust in its keys, by their end",
            ),
            &["outcome"],
        )?;
        let asked_primary = IntCounterVec::new(
            Opts::new(
                "truckradar_primary_checks_total",
                "On PostgreSQL: keys judged by the database itself, as the trust in memory had run out",
            ),
            &["outcome"],
        )?;
        let leak_reports = IntCounterVec::new(
            Opts::new(
                "truckradar_leak_reports_total",
                "Keys that were said to be found where they should not be, by who said so and what came of it",
            ),
            &["finder", "outcome"],
        )?;
        let github_fetches = IntCounterVec::new(
            Opts::new(
                "truckradar_github_keys_fetches_total",
                "Fetches of the keys by which GitHub signs, by their end",
            ),
            &["outcome"],
        )?;
        let class = |name: &str| requests.with_label_values(&[name]);
        let reason = |name: &str| refused.with_label_values(&[name]);
        let gauge = |name: &str, help: &str| IntGauge::with_opts(Opts::new(name, help));
        let metrics = Self {
            by_class: ["2xx", "3xx", "401", "403", "429", "4xx", "5xx"].map(class),
            refused: RefusedBecause::ALL.map(|because| reason(because.name())),
            over_limit: IntCounter::new(
                "truckradar_over_rate_limit_total",
                "Requests beyond a key's fair use, refused or not",
            )?,
            request_seconds: Histogram::with_opts(
                HistogramOpts::new(
                    "truckradar_request_seconds",
                    "Time to answer a request under /api/v1/",
                )
                .buckets(vec![
                    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5,
                ]),
            )?,
            keys: gauge("truckradar_keys", "Keys in memory, live and dead")?,
            epoch: gauge(
                "truckradar_revocation_epoch",
                "The revocation epoch that this node judges by",
            )?,
            uncounted: gauge(
                "truckradar_usage_dropped",
                "Requests that usage could not count",
            )?,
            cycles: ["renewed", "row_gone", "failed"].map(|end| cycles.with_label_values(&[end])),
            asked_primary: ["answered", "unanswered"]
                .map(|end| asked_primary.with_label_values(&[end])),
            leak_reports: FINDERS.map(|finder| {
                Dealt::ALL
                    .map(|dealt| leak_reports.with_label_values(&[finder.as_str(), dealt.name()]))
            }),
            github_fetches: ["done", "failed"].map(|end| github_fetches.with_label_values(&[end])),
            lapsed_seconds: Counter::new(
                "truckradar_trust_lapsed_seconds_total",
                "On PostgreSQL: time for which this node could not trust its keys in memory",
            )?,
            trusted: gauge(
                "truckradar_trusted",
                "1 while this node may judge by its keys in memory",
            )?,
            epochs_behind: gauge(
                "truckradar_epochs_behind",
                "How many changes of keys this node has seen in the database and does not judge by yet",
            )?,
            nodes: gauge(
                "truckradar_nodes",
                "On PostgreSQL: nodes on the database when this one last looked",
            )?,
            registry,
        };
        let all: [Box<dyn Collector>; 15] = [
            Box::new(leak_reports),
            Box::new(github_fetches),
            Box::new(cycles),
            Box::new(asked_primary),
            Box::new(metrics.lapsed_seconds.clone()),
            Box::new(metrics.trusted.clone()),
            Box::new(metrics.epochs_behind.clone()),
            Box::new(metrics.nodes.clone()),
            Box::new(requests),
            Box::new(refused),
            Box::new(metrics.over_limit.clone()),
            Box::new(metrics.request_seconds.clone()),
            Box::new(metrics.keys.clone()),
            Box::new(metrics.epoch.clone()),
            Box::new(metrics.uncounted.clone()),
        ];
        for collector in all {
            metrics.registry.register(collector)?;
        }
        Ok(metrics)
    }

    /// Has the instruments of the rule on keys read together with these.
    pub fn add(&self, figures: &Figures) -> prometheus::Result<()> {
        match &figures.change_seconds {
            Some(seconds) => self.registry.register(Box::new(seconds.clone())),
            None => Ok(()),
        }
    }

    /// Counts an answer.
    pub fn answered(&self, class: StatusClass) {
        let at = match class {
            StatusClass::Success => 0,
            StatusClass::Redirect => 1,
            StatusClass::Unauthorized | StatusClass::Staged => 2,
            StatusClass::Forbidden | StatusClass::Barred => 3,
            StatusClass::Limited => 4,
            StatusClass::ClientError => 5,
            StatusClass::ServerError => 6,
        };
        self.by_class[at].inc();
    }

    /// Counts a refusal.
    pub fn refused(&self, because: RefusedBecause) {
        let place = RefusedBecause::ALL.iter().position(|one| *one == because);
        if let Some(counter) = place.and_then(|place| self.refused.get(place)) {
            counter.inc();
        }
    }

    /// Everything as text.
    pub fn render(&self, services: &Services) -> prometheus::Result<Vec<u8>> {
        let snapshot = services.keys.revocation.snapshot();
        self.keys.set(snapshot.len() as i64);
        self.epoch.set(snapshot.epoch);
        self.uncounted.set(services.keys.usage.dropped() as i64);
        let figures = &services.keys.revocation.figures;
        use CycleOutcome::{Failed, Renewed, RowGone};
        for (counter, outcome) in self.cycles.iter().zip([Renewed, RowGone, Failed]) {
            raise(counter, figures.cycles(outcome));
        }
        let (answered, unanswered) = figures.asked();
        for (counter, count) in self.asked_primary.iter().zip([answered, unanswered]) {
            raise(counter, count);
        }
        let leaks = &services.leaks.figures;
        for (finder, counters) in self.leak_reports.iter().enumerate() {
            for (counter, count) in counters.iter().zip(leaks.dealt(finder)) {
                raise(counter, count);
            }
        }
        for (counter, count) in self.github_fetches.iter().zip(leaks.fetches()) {
            raise(counter, count);
        }
        let now = services.clock.boot();
        let lapsed = figures.lapsed(snapshot.trust, now).as_secs_f64();
        self.lapsed_seconds
            .inc_by((lapsed - self.lapsed_seconds.get()).max(0.0));
        self.trusted.set(snapshot.trust.holds(now).into());
        self.epochs_behind
            .set(figures.epochs_behind(snapshot.epoch));
        self.nodes.set(figures.nodes() as i64);
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

/// Raises a counter to what was counted elsewhere.
fn raise(counter: &IntCounter, to: u64) {
    counter.inc_by(to.saturating_sub(counter.get()));
}
