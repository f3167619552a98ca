//! Random places on the sky, and whatever else a query template asks for (`contracts/businesses.md` 7.5).

use std::f64::consts::TAU;

use serde::Deserialize;

/// The digits of a short identifier: those that cannot be taken for another.
const DIGITS: &[u8; 57] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
/// Length of a short identifier.
const SHORT: usize = 22;
/// How many objects `objects` has.
const OBJECTS: usize = 12;

/// The part of the sky that a set looks at, in degrees.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Field {
    pub(super) min_ra: f64,
    pub(super) max_ra: f64,
    pub(super) min_dec: f64,
    pub(super) max_dec: f64,
    pub(super) min_radius: f64,
    pub(super) radius_range: f64,
    pub(super) radius_near_range: f64,
}

impl Default for Field {
    fn default() -> Self {
        Self {
            min_ra: 55.0,
            max_ra: 70.0,
            min_dec: -42.0,
            max_dec: -30.0,
            min_radius: 0.01,
            radius_range: 0.04,
            radius_near_range: 0.09,
        }
    }
}

impl Field {
    /// Returns what is wrong with it, if anything.
    pub(super) fn check(&self) -> Result<(), String> {
        check(&[
            ("min_ra", self.min_ra),
            ("max_ra", self.max_ra),
            ("min_dec", self.min_dec),
            ("max_dec", self.max_dec),
        ])?;
        sizes(&[
            ("min_radius", self.min_radius),
            ("radius_range", self.radius_range),
            ("radius_near_range", self.radius_near_range),
        ])
    }
}

/// Returns what is wrong with bounds: a lower and an upper one, and so on.
pub(super) fn check(bounds: &[(&str, f64)]) -> Result<(), String> {
    for pair in bounds.chunks(2) {
        let [(low_name, low), (high_name, high)] = pair else {
            continue;
        };
        if high < low {
            return Err(format!("{high_name} must not be below {low_name}"));
        }
    }
    Ok(())
}

/// Returns which of some sizes is none.
pub(super) fn sizes(sizes: &[(&str, f64)]) -> Result<(), String> {
    match sizes.iter().find(|(_, size)| *size < 0.0) {
        Some((name, _)) => Err(format!("{name} must not be negative")),
        None => Ok(()),
    }
}

/// Values for one query.
#[derive(Debug)]
pub(super) struct Drawn {
    ra: f64,
    dec: f64,
    radius: f64,
    radius_near: f64,
    /// Corners, as right ascension and declination.
    polygon: Vec<(f64, f64)>,
    min_flux: f64,
    min_mag: f64,
    object: Option<u64>,
    objects: Vec<u64>,
    query_id: String,
}

/// Returns a number from `first` to `last`.
pub(super) fn between(first: f64, last: f64, random: &mut fastrand::Rng) -> f64 {
    first + random.f64() * (last - first)
}

impl Drawn {
    pub(super) fn draw(field: &Field, objects: &[u64], random: &mut fastrand::Rng) -> Self {
        let centre = |random: &mut fastrand::Rng| {
            let ra = between(field.min_ra, field.max_ra, random);
            (ra, between(field.min_dec, field.max_dec, random))
        };
        let radius = |range: f64, random: &mut fastrand::Rng| field.min_radius + random.f64() * range;
        let (ra, dec) = centre(random);
        Self {
            ra,
            dec,
            radius: radius(field.radius_range, random),
            radius_near: radius(field.radius_near_range, random),
            polygon: {
                let middle = centre(random);
                polygon(middle, radius(field.radius_range, random), random)
            },
            min_flux: random.f64() * 0.001,
            min_mag: 15.0 + random.f64() * 15.0,
            object: random.choice(objects).copied(),
            objects: (0..OBJECTS).filter_map(|_| random.choice(objects).copied()).collect(),
            query_id: format!("mobu-{}", short(random.u128(..))),
        }
    }

    /// Returns a value by its name, as a query has it; `None` if there is none of that name.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        let number = |number: f64| Some(format!("{number:?}"));
        match name {
            "ra" => number(self.ra),
            "dec" => number(self.dec),
            "radius" => number(self.radius),
            "radius_near" => number(self.radius_near),
            "polygon" => {
                let corners = self.polygon.iter().map(|(ra, dec)| format!("{ra:?}, {dec:?}"));
                Some(corners.collect::<Vec<_>>().join(", "))
            }
            "min_flux" => number(self.min_flux),
            "max_flux" => number(self.min_flux + 0.00001),
            "min_mag" => number(self.min_mag),
            "max_mag" => number(self.min_mag + 0.1),
            "object" => self.object.map(|object| object.to_string()),
            "objects" if self.objects.is_empty() => None,
            "objects" => Some(self.objects.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")),
            "query_id" => Some(self.query_id.clone()),
            _ => None,
        }
    }
}

/// Returns the corners of a regular polygon of three to seven, turned at random.
fn polygon((ra, dec): (f64, f64), radius: f64, random: &mut fastrand::Rng) -> Vec<(f64, f64)> {
    let corners: u32 = random.u32(3..=7);
    let phase = random.f64() * TAU;
    let corner = |number: u32| {
        let angle = phase + TAU * f64::from(number) / f64::from(corners);
        (ra + radius * angle.sin(), dec + radius * angle.cos())
    };
    (0..corners).map(corner).collect()
}

/// Returns a random UUID made of these bits in few, unmistakable characters.
fn short(bits: u128) -> String {
    let uuid = uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid();
    let (mut rest, base) = (uuid.as_u128(), DIGITS.len() as u128);
    let mut digits = [DIGITS[0]; SHORT];
    for digit in digits.iter_mut().rev() {
        let value = usize::try_from(rest % base).expect("a digit is below 57");
        *digit = DIGITS[value];
        rest /= base;
    }
    digits.iter().map(|&digit| char::from(digit)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_short_identifier_has_the_digits_of_the_uuid() {
        assert_eq!(short(0), short(0));
        assert_eq!(short(0).len(), SHORT);
        // 57^22 exceeds 2^128, so nothing is lost.
        assert!(57_f64.powi(22) > 2_f64.powi(128));
        assert!(short(u128::MAX) != short(0));
    }

    #[test]
    fn numbers_are_written_as_short_as_they_can_be() {
        let mut drawn = Drawn::draw(&Field::default(), &[5], &mut fastrand::Rng::with_seed(1));
        (drawn.ra, drawn.min_flux) = (0.1 + 0.2, 0.000_012_5);
        assert_eq!(drawn.get("ra").unwrap(), "0.30000000000000004");
        assert_eq!(drawn.get("min_flux").unwrap(), "1.25e-5");
        assert_eq!(drawn.get("object").unwrap(), "5");
        assert_eq!(drawn.get("objects").unwrap(), "5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5");
    }

    proptest! {
        #[test]
        fn every_value_is_in_its_range(seed: u64) {
            let mut random = fastrand::Rng::with_seed(seed);
            let field = Field { min_ra: 52.0, max_ra: 72.0, min_dec: -44.0, max_dec: -28.0, ..Field::default() };
            let drawn = Drawn::draw(&field, &[1, 2, 3], &mut random);
            let number = |name: &str| drawn.get(name).unwrap().parse::<f64>().unwrap();
            prop_assert!((52.0..72.0).contains(&number("ra")) && (-44.0..-28.0).contains(&number("dec")));
            prop_assert!((0.01..0.05).contains(&number("radius")) && (0.01..0.1).contains(&number("radius_near")));
            prop_assert!((0.0..0.001).contains(&number("min_flux")) && (15.0..30.0).contains(&number("min_mag")));
            prop_assert!((number("max_flux") - number("min_flux") - 0.00001).abs() < 1e-12);
            prop_assert!((number("max_mag") - number("min_mag") - 0.1).abs() < 1e-12);
            let polygon = drawn.get("polygon").unwrap();
            let corners: Vec<f64> = polygon.split(", ").map(|number| number.parse().unwrap()).collect();
            prop_assert!((6..=14).contains(&corners.len()) && corners.len().is_multiple_of(2));
            let (ra, dec): (Vec<_>, Vec<_>) = corners.chunks(2).map(|pair| (pair[0], pair[1])).unzip();
            #[expect(clippy::cast_precision_loss, reason = "there are at most seven")]
            let middle = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
            let middle = (middle(&ra), middle(&dec));
            for (ra, dec) in ra.iter().zip(&dec) {
                let radius = (ra - middle.0).hypot(dec - middle.1);
                prop_assert!((0.0099..0.0501).contains(&radius), "{radius}");
            }
            let id = drawn.get("query_id").unwrap();
            prop_assert!(id.len() == 27 && id[5..].bytes().all(|byte| DIGITS.contains(&byte)), "{id}");
            prop_assert_eq!(drawn.get("objects").unwrap().split(", ").count(), 12);
        }
    }
}
