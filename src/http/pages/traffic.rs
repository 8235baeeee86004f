//! Calls over time as bars: what was answered with 200 and 401, by key, drawn as SVG.
//!
//! Each line of a chart has a baseline: what was let in stands above it, what was refused hangs below it, so that the two
//! can be told apart without their colours.
//!
//! Never: a chart whose numbers are not also there in words.

use super::grouped;
use crate::{
    clock::Time,
    db::{Db, DbError},
    ids::KeyId,
    keys::{
        cutover::{Calls, Chart, Line},
        scope::SellerScope,
    },
};

/// Slots and minutes of a slot of the chart that shows what happens now.
const TEN_MINUTES: (usize, i64) = (10, 1);
/// The same of the chart that shows the day.
const A_DAY: (usize, i64) = (96, 15);

/// The drawing's units: a slot is this wide, of which a bar takes all but the gap.
const SLOT_WIDTH: i64 = 10;
const BAR_WIDTH: i64 = 8;
/// The room above the baseline, and below it.
const ROOM: i64 = 36;
/// Whatever happened at all is seen.
const BAR_MIN: i64 = 3;

/// A key whose calls are looked at.
pub struct Shown {
    /// Which line it is.
    pub key: KeyId,
    /// Its last four characters.
    pub hint: String,
}

/// A Seller's calls of the last ten minutes and of the last day, by key.
pub struct Traffic {
    /// One line per key that there is something to say of.
    pub lines: Vec<LineView>,
}

/// One key's calls.
pub struct LineView {
    /// Which key, in words.
    pub name: &'static str,
    /// Its last four characters; empty for several dead keys, which are drawn together.
    pub hint: String,
    /// The last ten minutes.
    pub now: Drawing,
    /// The last 24 hours.
    pub day: Drawing,
}

/// One line of a chart.
pub struct Drawing {
    /// The bars, the oldest first.
    pub bars: Vec<Bar>,
    /// The drawing's width, in its units.
    pub width: i64,
    /// Its height.
    pub height: i64,
    /// Where the baseline is.
    pub baseline: i64,
    /// Calls that were answered with 200 or the like.
    pub succeeded: String,
    /// Calls that were answered with 401.
    pub refused: String,
    /// Whether there were any of those.
    pub has_refused: bool,
    /// Calls with any other answer, if there were any.
    pub others: Option<String>,
    /// The numbers in words, for whoever does not see the bars.
    pub told: String,
}

/// One bar.
pub struct Bar {
    /// What it is: `ok`, `other` or `refused`.
    pub class: &'static str,
    /// Its left edge.
    pub x: i64,
    /// Its upper edge.
    pub y: i64,
    /// Its width.
    pub width: i64,
    /// Its height.
    pub height: i64,
}

impl Traffic {
    /// Reads the calls of a Seller's keys.
    pub async fn read(
        db: &Db,
        scope: SellerScope,
        live: Option<Shown>,
        staged: Option<Shown>,
        dead: &[Shown],
        now: Time,
    ) -> Result<Self, DbError> {
        let key = |shown: &Option<Shown>| shown.as_ref().map(|shown| shown.key);
        let chart = async |slots| {
            let (live, staged) = (key(&live), key(&staged));
            Chart::read(db, scope, live, staged, slots, now).await
        };
        let (minutes, day) = (chart(TEN_MINUTES).await?, chart(A_DAY).await?);
        let hint = |shown: &Option<Shown>| shown.as_ref().map_or(String::new(), |s| s.hint.clone());
        // Of several they are drawn together; the newest alone is named.
        let (old_name, old) = match day.dead_keys.as_slice() {
            [one] => ("Old key", dead.iter().find(|shown| shown.key == *one)),
            _ => ("Old keys", None),
        };
        let lines = [
            (Line::Live, "Present key", hint(&live)),
            (Line::Staged, "Next key", hint(&staged)),
            (
                Line::Dead,
                old_name,
                old.map_or(String::new(), |old| old.hint.clone()),
            ),
        ];
        let drawn = lines.into_iter().filter_map(|(line, name, hint)| {
            let there = line == Line::Live && live.is_some();
            let used = day
                .line(line)
                .iter()
                .any(|calls| *calls != Calls::default());
            (there || used).then(|| LineView {
                name,
                hint,
                now: draw(&minutes, line, "the last 10 minutes, by minute"),
                day: draw(&day, line, "the last 24 hours, by quarter of an hour"),
            })
        });
        Ok(Self {
            lines: drawn.collect(),
        })
    }

    /// Whether nobody has called with any key.
    pub fn is_empty(&self) -> bool {
        self.lines.iter().all(|line| line.day.bars.is_empty())
    }

    /// Whether there were answers that are neither 200 nor 401.
    pub fn has_others(&self) -> bool {
        self.lines.iter().any(|line| line.day.others.is_some())
    }
}

fn draw(chart: &Chart, line: Line, period: &str) -> Drawing {
    // One scale for all lines of a chart, above and below: they are there to be compared.
    let all = [&chart.live, &chart.staged, &chart.dead]
        .into_iter()
        .flatten();
    let most = |calls: &Calls| calls.refused.max(calls.succeeded + calls.others);
    let peak = all.map(most).max().unwrap_or(0);
    let calls = chart.line(line);
    let mut bars = Vec::new();
    for (x, one) in (0..).step_by(SLOT_WIDTH as usize).zip(calls) {
        let mut bar = |class, y, height| {
            if height > 0 {
                bars.push(Bar {
                    class,
                    x,
                    y,
                    width: BAR_WIDTH,
                    height,
                });
            }
        };
        let ok = scaled(one.succeeded, peak);
        let other = scaled(one.others, peak).min(ROOM - ok);
        bar("ok", ROOM - ok, ok);
        bar("other", ROOM - ok - other, other);
        bar("refused", ROOM, scaled(one.refused, peak));
    }
    let sum = |what: fn(&Calls) -> i64| calls.iter().map(what).sum::<i64>();
    let (succeeded, refused, others) =
        (sum(|c| c.succeeded), sum(|c| c.refused), sum(|c| c.others));
    Drawing {
        bars,
        width: calls.len() as i64 * SLOT_WIDTH,
        height: 2 * ROOM,
        baseline: ROOM,
        told: told(calls, period),
        succeeded: grouped(succeeded),
        refused: grouped(refused),
        has_refused: refused > 0,
        others: (others > 0).then(|| grouped(others)),
    }
}

/// A bar's height: in proportion, but never invisible.
fn scaled(count: i64, peak: i64) -> i64 {
    match count {
        ..=0 => 0,
        count => (count * ROOM / peak.max(1)).clamp(BAR_MIN, ROOM),
    }
}

/// The bars in words: each number where there are few, else how many in all and at most.
fn told(calls: &[Calls], period: &str) -> String {
    let numbers = |what: fn(&Calls) -> i64| {
        let numbers = calls.iter().map(what);
        if calls.len() <= TEN_MINUTES.0 {
            let numbers: Vec<String> = numbers.map(grouped).collect();
            numbers.join(", ")
        } else {
            let (sum, most) = (numbers.clone().sum(), numbers.max().unwrap_or(0));
            format!("{} in all, {} at most", grouped(sum), grouped(most))
        }
    };
    format!(
        "Calls of {period}, the oldest first. Answered 200: {}. Answered 401: {}.",
        numbers(|calls| calls.succeeded),
        numbers(|calls| calls.refused)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(live: &[(i64, i64, i64)], dead: &[(i64, i64, i64)]) -> Chart {
        let line = |numbers: &[(i64, i64, i64)]| {
            let calls = numbers.iter().map(|(succeeded, refused, others)| Calls {
                succeeded: *succeeded,
                refused: *refused,
                others: *others,
            });
            calls.collect::<Vec<_>>()
        };
        Chart {
            live: line(live),
            staged: vec![Calls::default(); live.len()],
            dead: line(dead),
            dead_keys: Vec::new(),
        }
    }

    #[test]
    fn bars_share_one_scale_and_the_refused_hang_below() {
        let chart = chart(
            &[(100, 0, 0), (50, 0, 50), (0, 0, 0)],
            &[(0, 0, 0), (1, 1, 0), (0, 200, 0)],
        );
        let shown = |line| {
            let drawing = draw(&chart, line, "");
            let bars = drawing.bars.iter().map(|b| (b.class, b.x, b.y, b.height));
            bars.collect::<Vec<_>>()
        };
        assert_eq!(
            shown(Line::Live),
            [("ok", 0, 18, 18), ("ok", 10, 27, 9), ("other", 10, 18, 9)]
        );
        assert_eq!(
            shown(Line::Dead),
            [
                ("ok", 10, 33, 3),
                ("refused", 10, 36, 3),
                ("refused", 20, 36, 36)
            ]
        );
        assert_eq!(shown(Line::Staged), []);
    }

    #[test]
    fn every_number_is_there_in_words() {
        let chart = chart(&[(1_204, 0, 3), (0, 2, 0)], &[]);
        let drawing = draw(&chart, Line::Live, "the last 2 minutes");
        assert_eq!(
            drawing.told,
            "Calls of the last 2 minutes, the oldest first. Answered 200: 1,204, 0. Answered 401: 0, 2."
        );
        assert_eq!((&*drawing.succeeded, &*drawing.refused), ("1,204", "2"));
        assert_eq!(drawing.others.as_deref(), Some("3"));
        let long = vec![
            Calls {
                succeeded: 2,
                refused: 0,
                others: 0
            };
            96
        ];
        assert!(told(&long, "").contains("Answered 200: 192 in all, 2 at most."));
    }
}
