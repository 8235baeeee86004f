//! What a change of keys can say once it has returned: which epoch it made, and how each node came to obey it. It is shown, printed
//! and kept in the audit log.
//!
//! Never: more than is known; a field taken away or renamed, since receipts are read for as long as the audit log is kept.

use serde::{Deserialize, Serialize};

use crate::ids::NodeId;

/// What a change of keys can say for itself: which epoch it made, and which nodes obey it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Receipt {
    /// The revocation epoch that the change made, or found where it had nothing to do.
    pub epoch: i64,
    /// From the start of the act to the moment it was obeyed everywhere, in milliseconds.
    pub elapsed_ms: f64,
    /// Every node that was listed when the change was committed.
    pub nodes: Vec<NodeReceipt>,
    /// Whether the database did not list the nodes for as long as any older trust could last; then none is named.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unlisted: bool,
}

impl Receipt {
    /// Where the change is obeyed, and how it came to be, after a verb such as "dead": "on 3 of 3 nodes after 7 ms: 2 confirmed
    /// it, the trust of b ran out".
    pub fn in_words(&self) -> String {
        let ms = self.elapsed_ms.ceil();
        let n = self.nodes.len();
        if self.unlisted {
            return format!(
                "on every node after {ms:.0} ms: the database did not say which there are, and any older trust ran out"
            );
        }
        if n == 0 {
            return format!("after {ms:.0} ms, while no server was listed");
        }
        let plural = if n == 1 { "" } else { "s" };
        let obeyed = format!("on {n} of {n} node{plural} after {ms:.0} ms");
        let out: Vec<String> = self
            .nodes
            .iter()
            .filter(|node| node.outcome == NodeOutcome::TrustRanOut)
            .map(NodeReceipt::called)
            .collect();
        match (n - out.len(), out.as_slice()) {
            (_, []) => obeyed,
            (0, _) => format!("{obeyed}: the trust of {} ran out", out.join(", ")),
            (confirmed, _) => format!(
                "{obeyed}: {confirmed} confirmed it, the trust of {} ran out",
                out.join(", ")
            ),
        }
    }
}

/// How one node came to obey a change.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeReceipt {
    /// The node.
    pub node: NodeId,
    /// What people call it; empty in receipts from before it had a name.
    #[serde(default)]
    pub name: String,
    /// Whether it said so, or its trust in older knowledge ran out.
    pub outcome: NodeOutcome,
}

impl NodeReceipt {
    /// By what people tell it from others.
    fn called(&self) -> String {
        match self.name.is_empty() {
            true => self.node.to_string(),
            false => self.name.clone(),
        }
    }
}

/// See [`NodeReceipt`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeOutcome {
    /// It confirmed that it judges by the new keys.
    Confirmed,
    /// It did not answer, or has ended, and by now can trust nothing older than the change.
    TrustRanOut,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_names_whose_trust_ran_out_and_says_no_more_than_it_knows() {
        use NodeOutcome::{Confirmed, TrustRanOut};
        let words = |nodes: &[(&str, NodeOutcome)], unlisted| {
            let nodes = nodes.iter().map(|(name, outcome)| NodeReceipt {
                node: NodeId::new(),
                name: (*name).to_owned(),
                outcome: *outcome,
            });
            let receipt = Receipt {
                epoch: 4,
                elapsed_ms: 6.2,
                nodes: nodes.collect(),
                unlisted,
            };
            receipt.in_words()
        };
        let one = words(&[("a", Confirmed)], false);
        assert_eq!(one, "on 1 of 1 node after 7 ms");
        let both = words(&[("a", Confirmed), ("b", Confirmed)], false);
        assert_eq!(both, "on 2 of 2 nodes after 7 ms");
        let late = words(&[("a", Confirmed), ("b", TrustRanOut)], false);
        assert_eq!(
            late,
            "on 2 of 2 nodes after 7 ms: 1 confirmed it, the trust of b ran out"
        );
        let none = words(&[("a", TrustRanOut), ("b", TrustRanOut)], false);
        assert_eq!(
            none,
            "on 2 of 2 nodes after 7 ms: the trust of a, b ran out"
        );
        assert!(words(&[], false).ends_with("while no server was listed"));
        assert!(!words(&[], true).contains("no server"));
        // Receipts are kept for as long as the audit log.
        let old = r#"{"epoch":1,"elapsed_ms":1.0,"nodes":[]}"#;
        let old: Receipt = serde_json::from_str(old).expect("is read");
        assert!(!old.unlisted);
        assert_eq!(
            serde_json::to_string(&old).expect("is written"),
            r#"{"epoch":1,"elapsed_ms":1.0,"nodes":[]}"#
        );
    }
}
