//! The 17-character vehicle identification number (49 CFR 565, ISO 3779): its form, its check digit, the model years it
//! can mean and whether its maker builds trailers.
//!
//! Never: a make decoded from a VIN. One maker code stands for several makes, so the record's own make is believed.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};

/// Characters in a VIN.
pub const VIN_CHARS: usize = 17;

/// A VIN of the right form, in upper case. Its check digit may still be wrong: outside North America it need not hold.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Vin([u8; VIN_CHARS]);

/// Why a string is not a VIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VinError {
    /// Serial numbers from before 1981 fail here too: they had no fixed length.
    #[error("must be exactly 17 characters, without spaces or hyphens")]
    Length,
    /// I, O and Q are left out of the alphabet because they read as 1 and 0.
    #[error("may contain only digits and the letters A to Z without I, O and Q")]
    Alphabet,
}

impl FromStr for Vin {
    type Err = VinError;

    fn from_str(text: &str) -> Result<Self, VinError> {
        let mut vin: [u8; VIN_CHARS] = text.as_bytes().try_into().map_err(|_| VinError::Length)?;
        vin.make_ascii_uppercase();
        if vin.iter().any(|c| transliterate(*c).is_none()) {
            return Err(VinError::Alphabet);
        }
        Ok(Self(vin))
    }
}

impl Vin {
    /// The VIN as text.
    pub fn as_str(&self) -> &str {
        // `from_str` admits ASCII only.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Whether position 9 is what the other sixteen demand (49 CFR 565.15(c)).
    pub fn check_digit_holds(&self) -> bool {
        const WEIGHTS: [u32; VIN_CHARS] = [8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2];
        let sum: u32 = self
            .0
            .iter()
            .zip(WEIGHTS)
            .map(|(c, weight)| transliterate(*c).unwrap_or(0) * weight)
            .sum();
        let expected = match sum % 11 {
            10 => b'X',
            digit => b'0' + digit as u8,
        };
        self.0[8] == expected
    }

    /// The model years that position 10 can mean; its letters repeat every thirty years. Empty if it means none.
    pub fn model_years(&self) -> Vec<i64> {
        const YEARS: &[u8; 30] = b"ABCDEFGHJKLMNPRSTVWXY123456789";
        YEARS
            .iter()
            .position(|c| *c == self.0[9])
            .map(|at| vec![1980 + at as i64, 2010 + at as i64])
            .unwrap_or_default()
    }

    /// Whether the world manufacturer identifier (the first three characters) belongs to a maker of trailers.
    pub fn is_trailer_maker(&self) -> bool {
        TRAILER_MAKERS.contains(&[self.0[0], self.0[1], self.0[2]])
    }
}

impl fmt::Display for Vin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Vin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Vin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// The number that stands for a character in the check sum; `None` outside the alphabet.
fn transliterate(c: u8) -> Option<u32> {
    let value = match c {
        b'0'..=b'9' => c - b'0',
        b'A'..=b'H' => c - b'A' + 1,
        b'J'..=b'N' => c - b'J' + 1,
        b'P' => 7,
        b'R' => 9,
        b'S'..=b'Z' => c - b'S' + 2,
        _ => return None,
    };
    Some(u32::from(value))
}

/// Maker codes of the common North American trailer makers (NHTSA vPIC, vehicle type "trailer").
#[rustfmt::skip]
const TRAILER_MAKERS: &[[u8; 3]] = &[
    *b"1UY", *b"3UT", *b"1GR", *b"1JJ", *b"1TT", *b"10B", *b"5WS", *b"3H3", *b"13N", *b"1R1", *b"4LF", *b"57J",
    *b"5TR", *b"5V8", *b"527", *b"2SH", *b"435", *b"57V", *b"LJR", *b"1DW", *b"5MA", *b"1E1", *b"1HL", *b"5HT",
    *b"5JL", *b"3H4", *b"1S1", *b"7KY", *b"1TK", *b"40F", *b"2M5", *b"5MC", *b"1W1", *b"4WW", *b"1TD", *b"1RN",
    *b"1PM", *b"3H6", *b"2TL", *b"5HB", *b"1KK", *b"1PT", *b"1PN", *b"5JY", *b"1LH", *b"5FT", *b"1RB", *b"5LK",
    *b"5E0", *b"5EF", *b"1MT", *b"112", *b"44R", *b"2TV", *b"2DE", *b"4FG", *b"48X", *b"5C2", *b"5JN", *b"4P5",
    *b"3CV", *b"16V",
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn vin(text: &str) -> Vin {
        text.parse().expect("a VIN")
    }

    #[test]
    fn known_vins_pass_their_check_digit() {
        for good in [
            "3ALHCYFE3LDLM8435",
            "3HAMMMML2KL595663",
            "1M8GDM9AXKP042788",
            "11111111111111111",
            "5GZCZ43D13S812715",
            "1JJV532D9KL000001",
            "1GRAA0626KB700001",
            "3H3V532CXKT000001",
            "1UYVS2536KM000001",
        ] {
            assert!(vin(good).check_digit_holds(), "{good}");
        }
        assert!(!vin("3ALHCYFE4LDLM8435").check_digit_holds());
    }

    #[test]
    fn the_form_is_seventeen_of_the_alphabet() {
        assert_eq!(vin("3alhcyfe3ldlm8435").as_str(), "3ALHCYFE3LDLM8435");
        for bad in [
            "",
            "3ALHCYFE3LDLM843",
            "3ALHCYFE3LDLM84355",
            "ÉALHCYFE3LDLM8435",
        ] {
            assert_eq!(bad.parse::<Vin>(), Err(VinError::Length), "{bad}");
        }
        for bad in [
            "3ALHCYFE3LDLM843O",
            "3ALHCYFE3LDLM843I",
            "3ALHCYFE3LDLM843Q",
            "3ALHCYFE3-DLM8435",
        ] {
            assert_eq!(bad.parse::<Vin>(), Err(VinError::Alphabet), "{bad}");
        }
    }

    #[test]
    fn the_year_letter_means_two_years() {
        assert_eq!(vin("3ALHCYFE3LDLM8435").model_years(), [1990, 2020]);
        assert_eq!(vin("1M8GDM9AX9P042788").model_years(), [2009, 2039]);
        assert!(vin("1M8GDM9AX0P042788").model_years().is_empty());
    }

    #[test]
    fn trailer_makers_are_known() {
        assert!(vin("1JJV532D9KL000001").is_trailer_maker());
        assert!(!vin("3ALHCYFE3LDLM8435").is_trailer_maker());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,40}") {
            if let Ok(vin) = text.parse::<Vin>() {
                let _ = (vin.check_digit_holds(), vin.model_years(), vin.is_trailer_maker());
            }
        }

        #[test]
        fn one_changed_character_mostly_fails_the_check_digit(at in 0usize..17, to in "[0-9A-HJ-NPR-Z]") {
            let good = vin("3ALHCYFE3LDLM8435");
            let mut text = good.as_str().to_owned();
            text.replace_range(at..=at, &to);
            let changed = vin(&text);
            let same_value = transliterate(changed.0[at]) == transliterate(good.0[at]);
            prop_assume!(!same_value || at == 8);
            prop_assert_eq!(changed.check_digit_holds(), changed == good);
        }
    }
}
