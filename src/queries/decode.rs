//! Parameters as text: what a Bind message holds, read by the types that the statement has.

use std::fmt::Write as _;

use bytes::Bytes;

use crate::mux::message::Fields;

/// A parameter as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parameter {
    /// `None` is NULL.
    pub(super) text: Option<String>,
    /// It is a number or the like, which is written without quotes.
    pub(super) is_bare: bool,
}

/// The parameters of a statement. `types` is the end of a Parse, or what describes them, `values` the end of a Bind; either
/// may be cut off.
pub(super) fn parameters(types: &Bytes, values: &Bytes) -> Vec<Parameter> {
    let types = oids(types);
    let mut fields = Fields::new(values.clone());
    let formats = shorts(&mut fields);
    let count = fields.short().unwrap_or(0);
    let mut parameters = Vec::new();
    for index in 0..usize::from(count) {
        let format = match formats[..] {
            [] => 0,
            [format] => format,
            _ => formats.get(index).copied().unwrap_or(0),
        };
        let oid = types.get(index).copied().unwrap_or(0);
        let Some(length) = fields.int() else {
            break;
        };
        let text = match usize::try_from(length) {
            Err(_) => None,
            Ok(length) => match fields.take(length) {
                None => break,
                Some(value) if format == 0 => Some(String::from_utf8_lossy(&value).into_owned()),
                Some(value) => Some(text_of(oid, &value)),
            },
        };
        let is_bare = text.is_none() || is_number(oid);
        parameters.push(Parameter { text, is_bare });
    }
    parameters
}

fn oids(types: &Bytes) -> Vec<u32> {
    let mut fields = Fields::new(types.clone());
    let count = fields.short().unwrap_or(0);
    (0..count)
        .map_while(|_| fields.int().map(i32::cast_unsigned))
        .collect()
}

fn shorts(fields: &mut Fields) -> Vec<u16> {
    let count = fields.short().unwrap_or(0);
    (0..count).map_while(|_| fields.short()).collect()
}

/// A value in its binary format as PostgreSQL would write it, or in hexadecimal where its type isn't known here.
fn text_of(oid: u32, value: &[u8]) -> String {
    known(oid, value).unwrap_or_else(|| match std::str::from_utf8(value) {
        // An enum's label, or a domain's over text.
        Ok(text) if !text.chars().any(char::is_control) && !is_known(oid) => text.to_owned(),
        _ => hex(value),
    })
}

fn known(oid: u32, value: &[u8]) -> Option<String> {
    Some(match oid {
        BOOL => (*value.first()? != 0).to_string(),
        INT2 => i16::from_be_bytes(value.try_into().ok()?).to_string(),
        INT4 => i32::from_be_bytes(value.try_into().ok()?).to_string(),
        INT8 => i64::from_be_bytes(value.try_into().ok()?).to_string(),
        OID => u32::from_be_bytes(value.try_into().ok()?).to_string(),
        FLOAT4 => f32::from_be_bytes(value.try_into().ok()?).to_string(),
        FLOAT8 => f64::from_be_bytes(value.try_into().ok()?).to_string(),
        NUMERIC => numeric(value)?,
        TEXT | VARCHAR | BPCHAR | NAME | JSON | XML | UNKNOWN | CHAR => {
            String::from_utf8(value.to_vec()).ok()?
        }
        JSONB => String::from_utf8(value.strip_prefix(&[1])?.to_vec()).ok()?,
        UUID if value.len() == 16 => {
            let digits = hex(value)[2..].to_owned();
            let (a, rest) = digits.split_at(8);
            let parts = [&rest[..4], &rest[4..8], &rest[8..12], &rest[12..]];
            format!("{a}-{}", parts.join("-"))
        }
        DATE => date(i64::from(i32::from_be_bytes(value.try_into().ok()?)))?,
        TIME => time(i64::from_be_bytes(value.try_into().ok()?)),
        TIMESTAMP => timestamp(i64::from_be_bytes(value.try_into().ok()?))?,
        TIMESTAMPTZ => timestamp(i64::from_be_bytes(value.try_into().ok()?))? + "+00",
        _ if ARRAYS.contains(&oid) => array(value)?,
        _ => return None,
    })
}

fn is_known(oid: u32) -> bool {
    // Those that PostgreSQL brings along are read above, or are in a format of their own.
    (1..FIRST_OF_USERS).contains(&oid)
}

fn is_number(oid: u32) -> bool {
    matches!(
        oid,
        BOOL | INT2 | INT4 | INT8 | OID | FLOAT4 | FLOAT8 | NUMERIC
    )
}

fn hex(value: &[u8]) -> String {
    let mut text = "\\x".to_owned();
    for byte in value {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Digits to the base of 10,000, the first of which is worth so many places.
fn numeric(value: &[u8]) -> Option<String> {
    let mut fields = Fields::new(Bytes::copy_from_slice(value));
    let count = fields.short()?;
    let weight = i32::from(fields.short()?.cast_signed());
    let sign = fields.short()?;
    let scale = usize::from(fields.short()?);
    let mut digits = Vec::new();
    for _ in 0..count {
        digits.push(fields.short()?);
    }
    let mut text = match sign {
        0x0000 => String::new(),
        0x4000 => "-".to_owned(),
        0xc000 => return Some("NaN".to_owned()),
        0xd000 => return Some("Infinity".to_owned()),
        0xf000 => return Some("-Infinity".to_owned()),
        _ => return None,
    };
    let digit = |place: i32| {
        let index = usize::try_from(weight - place).ok();
        index
            .and_then(|index| digits.get(index))
            .copied()
            .unwrap_or(0)
    };
    let _ = write!(text, "{}", digit(weight.max(0)));
    for place in (0..weight.max(0)).rev() {
        let _ = write!(text, "{:04}", digit(place));
    }
    if scale > 0 {
        let mut fraction = String::new();
        let mut place = -1;
        while fraction.len() < scale {
            let _ = write!(fraction, "{:04}", digit(place));
            place -= 1;
        }
        let _ = write!(text, ".{}", &fraction[..scale]);
    }
    Some(text)
}

/// A date, given by the days since the first of January 2000.
fn date(days: i64) -> Option<String> {
    if [i64::from(i32::MAX), i64::from(i32::MIN)].contains(&days) {
        return Some(infinity(days > 0));
    }
    // Counted from the first of March 0000, so that a leap day is the last of its year; 400 years have 146,097 days.
    let days = days + 730_425;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    Some(match year {
        1.. => format!("{year:04}-{month:02}-{day:02}"),
        _ => format!("{:04}-{month:02}-{day:02} BC", 1 - year),
    })
}

fn time(microseconds: i64) -> String {
    let seconds = microseconds.div_euclid(1_000_000);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let mut text = format!("{hours:02}:{minutes:02}:{seconds:02}");
    let fraction = microseconds.rem_euclid(1_000_000);
    if fraction > 0 {
        let digits = format!(".{fraction:06}");
        text += digits.trim_end_matches('0');
    }
    text
}

fn timestamp(microseconds: i64) -> Option<String> {
    const DAY: i64 = 86_400_000_000;
    if [i64::MAX, i64::MIN].contains(&microseconds) {
        return Some(infinity(microseconds > 0));
    }
    let day = date(microseconds.div_euclid(DAY))?;
    Some(format!("{day} {}", time(microseconds.rem_euclid(DAY))))
}

fn infinity(positive: bool) -> String {
    let text = if positive { "infinity" } else { "-infinity" };
    text.to_owned()
}

/// An array of one dimension.
fn array(value: &[u8]) -> Option<String> {
    let mut fields = Fields::new(Bytes::copy_from_slice(value));
    let dimensions = fields.int()?;
    let _flags = fields.int()?;
    let oid = fields.int()?.cast_unsigned();
    let count = match dimensions {
        0 => 0,
        1 => fields.int()?,
        _ => return None,
    };
    if dimensions == 1 {
        fields.int()?;
    }
    let mut elements = Vec::new();
    for _ in 0..count {
        let length = fields.int()?;
        elements.push(match usize::try_from(length) {
            Err(_) => "NULL".to_owned(),
            Ok(length) => text_of(oid, &fields.take(length)?),
        });
    }
    Some(format!("{{{}}}", elements.join(",")))
}

const BOOL: u32 = 16;
const CHAR: u32 = 18;
const NAME: u32 = 19;
const INT8: u32 = 20;
const INT2: u32 = 21;
const INT4: u32 = 23;
const TEXT: u32 = 25;
const OID: u32 = 26;
const JSON: u32 = 114;
const XML: u32 = 142;
const FLOAT4: u32 = 700;
const FLOAT8: u32 = 701;
const UNKNOWN: u32 = 705;
const BPCHAR: u32 = 1042;
const VARCHAR: u32 = 1043;
const DATE: u32 = 1082;
const TIME: u32 = 1083;
const TIMESTAMP: u32 = 1114;
const TIMESTAMPTZ: u32 = 1184;
const NUMERIC: u32 = 1700;
const UUID: u32 = 2950;
const JSONB: u32 = 3802;
/// Those of the types above.
const ARRAYS: [u32; 20] = [
    1000, 1002, 1003, 1016, 1005, 1007, 1009, 1028, 199, 143, 1021, 1022, 1014, 1015, 1182, 1183,
    1115, 1185, 1231, 2951,
];
const FIRST_OF_USERS: u32 = 16_384;
