//! A QR code as a drawing inside the page: nothing is loaded for it, from here or elsewhere.
//!
//! Never: what a code says kept, or drawn anywhere but on the page that shows it once.

use std::fmt::Write;

use qrcodegen::{QrCode, QrCodeEcc};
use zeroize::Zeroizing;

/// Light squares around the code, which readers need.
const MARGIN: i32 = 4;

/// A QR code as a page draws it.
pub struct Drawing {
    /// Squares on each side, margin and all.
    pub size: i32,
    /// The dark squares as an SVG path, a row of them at a time.
    pub path: Zeroizing<String>,
}

impl Drawing {
    /// Of this text; `None` if it is too long for any code.
    pub fn of(text: &str) -> Option<Self> {
        let code = QrCode::encode_text(text, QrCodeEcc::Medium).ok()?;
        let mut path = Zeroizing::new(String::new());
        for y in 0..code.size() {
            let mut x = 0;
            while x < code.size() {
                let dark = (x..code.size())
                    .take_while(|x| code.get_module(*x, y))
                    .count() as i32;
                if dark > 0 {
                    // Writing to a text cannot fail.
                    let _ = write!(path, "M{} {}h{dark}v1h-{dark}z", x + MARGIN, y + MARGIN);
                }
                x += dark.max(1);
            }
        }
        Some(Self {
            size: code.size() + 2 * MARGIN,
            path,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drawing_has_the_three_corners_that_readers_look_for() {
        let drawing = Drawing::of("otpauth://totp/TruckRadar:a%40b?secret=GEZDGNBVGY3TQOJQ");
        let drawing = drawing.expect("is short enough");
        let far = drawing.size - 2 * MARGIN - 7 + MARGIN;
        for (x, y) in [(MARGIN, MARGIN), (far, MARGIN), (MARGIN, far)] {
            let edge = format!("M{x} {y}h7v1h-7z");
            assert!(
                drawing.path.contains(&edge),
                "{edge} in {}",
                drawing.path.as_str()
            );
        }
        assert!(Drawing::of(&"x".repeat(3_000)).is_none());
    }
}
