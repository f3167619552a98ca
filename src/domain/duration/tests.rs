use serde_json::{Value, json};

use super::*;

/// Reads a value where an option would stand.
fn read(value: &Value) -> Result<f64, Value> {
    Input::read(value, &["body".into()], HumanDuration::from_input)
        .map(|parsed| parsed.echo.as_f64().unwrap())
        .map_err(|errors| serde_json::to_value(&errors.0[0]).unwrap())
}

#[test]
fn what_the_contract_lists_as_a_duration_is_one() {
    for (given, seconds) in [
        (json!("1h30m"), 5400.0),
        (json!("1h 30m"), 5400.0),
        (json!(" 1h30m "), 5400.0),
        (json!("1w2d3h4m5s"), 788_645.0),
        (json!("2hr"), 7200.0),
        (json!("3mins"), 180.0),
        (json!("4min"), 240.0),
        (json!("5secs"), 5.0),
        (json!("6sec"), 6.0),
        (json!("1 week 2 days"), 777_600.0),
        (json!("1\tday\n2 hours"), 93_600.0),
        (json!(""), 0.0),
        (json!("   "), 0.0),
        (json!(-3), -3.0),
        (json!("-3"), -3.0),
        (json!("5"), 5.0),
        (json!("5.5"), 5.5),
        (json!(" 1e2 "), 100.0),
        (json!("1_000"), 1000.0),
        (json!(90), 90.0),
        (json!(0.000_001), 0.000_001),
        (json!(0.1), 0.1),
        (json!(true), 1.0),
        (json!(false), 0.0),
    ] {
        assert_eq!(read(&given), Ok(seconds), "{given}");
    }
}

#[test]
fn what_the_contract_lists_as_an_error_is_one_and_quotes_what_was_given() {
    for given in [
        "1.5h",
        "1.4s",
        "-1h",
        "30m1h",
        "1h1h",
        "1h30",
        "1m30",
        "1H",
        "5M",
        "90S",
        "PT5M",
        "P1D",
        "00:05:00",
        "1ms",
        "5 parsecs",
        "_5",
        "5__0",
    ] {
        let item = json!({
            "type": "value_error",
            "loc": ["body"],
            "msg": format!("Value error, Could not parse '{given}' as a time duration"),
            "input": given,
            "ctx": {"error": {}},
        });
        assert_eq!(read(&json!(given)), Err(item), "{given}");
    }
    let quoted = read(&json!("it's")).unwrap_err();
    assert_eq!(
        quoted["msg"],
        r#"Value error, Could not parse "it's" as a time duration"#
    );
}

#[test]
fn what_is_no_finite_time_has_pydantics_words() {
    for given in [json!(null), json!([]), json!({})] {
        let item = json!({
            "type": "time_delta_type", "loc": ["body"], "msg": "Input should be a valid timedelta", "input": given,
        });
        assert_eq!(read(&given), Err(item));
    }
    let too_long = "durations may not exceed 999,999,999 days";
    for (given, cause) in [
        (json!("inf"), too_long),
        (json!("-Infinity"), too_long),
        (json!(1e18), too_long),
        (json!(86_400_000_000_000_i64), too_long),
        (json!("99999999999999999999999999999999999999999w"), too_long),
        (json!("nan"), "NaN values not permitted"),
    ] {
        let item = json!({
            "type": "time_delta_parsing",
            "loc": ["body"],
            "msg": format!("Input should be a valid timedelta, {cause}"),
            "input": given,
            "ctx": {"error": cause},
        });
        assert_eq!(read(&given), Err(item), "{given}");
    }
    assert_eq!(read(&json!(86_399_999_913_600_i64)), Ok(86_399_999_913_600.0));
}

#[test]
fn a_duration_prints_as_python_prints_it() {
    for (given, text) in [
        ("90", "0:01:30"),
        ("1h30m", "1:30:00"),
        ("1d5s", "1 day, 0:00:05"),
        ("2w", "14 days, 0:00:00"),
        ("-3", "-1 day, 23:59:57"),
        ("-86403", "-2 days, 23:59:57"),
        ("1.4", "0:00:01.400000"),
        ("0", "0:00:00"),
    ] {
        assert_eq!(HumanDuration::from_text(given).unwrap().to_string(), text);
    }
}

#[test]
fn a_negative_duration_waits_for_nothing() {
    assert_eq!(HumanDuration::from_text("-3").unwrap().to_std(), Duration::ZERO);
    assert_eq!(
        HumanDuration::from_text("1.000001").unwrap().to_std(),
        Duration::from_micros(1_000_001)
    );
    let longest = HumanDuration::from_text("999999999 days").unwrap();
    assert_eq!(longest.to_std(), Duration::from_micros(u64::MAX));
}

#[test]
fn a_duration_crosses_the_wire_as_seconds() {
    let duration: HumanDuration = serde_json::from_str("\"1m30s\"").unwrap();
    assert_eq!(serde_json::to_string(&duration).unwrap(), "90.0");
    assert_eq!(serde_json::from_str::<HumanDuration>("90.0").unwrap(), duration);
}
