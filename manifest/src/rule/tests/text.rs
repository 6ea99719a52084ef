//! Parsing, showing, canonical forms and hashes.

use super::*;

#[test]
fn each_construct_parses_to_what_it_says() {
    let compare = |column, op, value| Expr::Compare { column, op, value };
    assert_eq!(rule("i = 1"), compare(I, CompareOp::Eq, Value::Int(1)));
    assert_eq!(rule("i == -1"), compare(I, CompareOp::Eq, Value::Int(-1)));
    assert_eq!(rule("5 < i"), compare(I, CompareOp::Gt, Value::Int(5)));
    assert_eq!(rule("s <> 'it''s'"), compare(S, CompareOp::NotEq, text("it's")));
    assert_eq!(rule("`i` is not null"), compare(I, CompareOp::NotEq, Value::Null));
}

#[test]
fn a_between_is_two_comparisons_and_not_binds_tighter_than_and() {
    assert_eq!(shown(&rule("i BETWEEN 1 AND 2 AND s IN ('a', NULL)")), "i >= 1 AND i <= 2 AND s IN ('a', NULL)");
    assert_eq!(shown(&rule("i NOT BETWEEN 1 AND 2")), "NOT (i >= 1 AND i <= 2)");
    assert_eq!(shown(&rule("NOT i = 1 AND s NOT IN ('b')")), "NOT i = 1 AND s NOT IN ('b')");
    assert_eq!(shown(&rule("(i = 1 OR i = 2) AND (s = 'a')")), "(i = 1 OR i = 2) AND s = 'a'");
    assert_eq!(shown(&rule("i = 1 AND i = 2 OR TRUE = \"Is\"")), "i = 1 AND i = 2 OR \"Is\" = TRUE");
    assert_eq!(rule("TRUE"), Expr::always());
    assert_eq!(rule("NOT (FALSE)").canonical(), Expr::always());
}

#[test]
fn literals_become_values_of_the_columns_type() {
    let value = |text: &str| match rule(text) {
        Expr::Compare { value, .. } => value,
        other => panic!("{other:?}"),
    };
    assert_eq!(value("u = 18446744073709551615"), Value::UInt(u64::MAX));
    assert_eq!(value("i = -9223372036854775808"), Value::Int(i64::MIN));
    assert_eq!(value("f = 1"), Value::Float(1.0));
    assert_eq!(value("f = -1.5e3"), Value::Float(-1500.0));
    assert_eq!(value("f = 'NaN'"), Value::Float(f64::NAN));
    assert_eq!(value("f32 = 0.1"), Value::Float(f64::from(0.1_f32)));
    assert_eq!(value("bin = X'00fF'"), Value::Binary(vec![0, 255]));
    assert_eq!(value("date = '1970-01-02'"), Value::Date(1));
    assert_eq!(value("\"date\" = DATE '1969-12-31'"), Value::Date(-1));
    assert_eq!(value("date = 3"), Value::Date(3));
    assert_eq!(value("dec = 1.5"), Value::Decimal(150));
    assert_eq!(value("dec = -1.500"), Value::Decimal(-150));
    assert_eq!(value("dec = 12e2"), Value::Decimal(120_000));
    assert_eq!(value("ts = '1970-01-01 00:00:01.5'"), Value::Timestamp(1500));
    assert_eq!(value("ts = TIMESTAMP '1970-01-01T01:00:00+01:00'"), Value::Timestamp(0));
    assert_eq!(value("ts = '1970-01-01T00:01Z'"), Value::Timestamp(60_000));
    assert_eq!(value("ts = -7"), Value::Timestamp(-7));
    assert_eq!(value("ns = '1969-12-31 23:59:59.999999999'"), Value::Timestamp(-1));
    assert_eq!(value("\"Is\" = true"), Value::Boolean(true));
}

#[test]
fn a_literal_that_does_not_fit_is_refused_with_its_column_and_type() {
    let refused = [
        "i = 1.0",
        "i = 1e3",
        "i = 9223372036854775808",
        "tiny = 128",
        "u = -1",
        "i = '1'",
        "i = TRUE",
        "s = 1",
        "f = 9007199254740993",
        "f = 1e400",
        "f = 1e-400",
        "f32 = 1e39",
        "f = 'x'",
        "dec = 0.001",
        "dec = 100000000",
        "dec = 1e999999999999",
        "date = '2024-02-30'",
        "date = '2024-1-1'",
        "date = '2024-01-01 00:00:01'",
        "ts = '1970-01-01 00:00:00.0001'",
        "ts = '1970-01-01 24:00'",
        "ts = 'soon'",
        "bin = 'x'",
    ];
    for text in refused {
        let error = parse(text, &schema()).unwrap_err();
        assert!(matches!(error.kind, ParseErrorKind::Literal { .. }), "{text}: {error}");
        assert_eq!(error.offset, text.find("= ").unwrap() + 2, "{text}");
    }
    let error = parse("tiny IN (1, 300)", &schema()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "at byte 12 of the rule: column 'tiny' is of type int8, which 300 does not fit: it is out of the type's range"
    );
}

#[test]
fn an_error_says_where_and_what_was_expected() {
    let cases = [
        ("", 0, "expected a comparison, NOT or '(', found the end"),
        ("i", 1, "expected a comparison such as =, <, IN, BETWEEN or IS NULL, found the end"),
        ("i = ", 4, "expected a literal, found the end"),
        ("i = 1 i", 6, "expected AND, OR or the end, found 'i'"),
        ("(i = 1", 6, "expected AND, OR or ')', found the end"),
        ("i = 'x", 4, "the quote ' is not closed"),
        ("nope = 1", 0, "the table has no column 'nope'"),
        ("\"I\" = 1", 0, "the table has no column 'I'"),
        ("i BETWEEN 1 OR 2", 12, "expected AND of BETWEEN, found 'OR'"),
        ("1 = 1", 4, "expected a column, found '1'"),
        ("i = s", 4, "expected a literal, found 's'"),
        ("i ; 1", 2, "expected a column, a literal or an operator, found ';'"),
        ("bin = X'0'", 6, "expected pairs of hex digits in X'...', found '0'"),
        ("i NOT 1", 6, "expected IN or BETWEEN, found '1'"),
    ];
    for (text, offset, message) in cases {
        let error = parse(text, &schema()).unwrap_err();
        assert_eq!((error.offset, error.kind.to_string().as_str()), (offset, message), "{text}");
    }
}

#[test]
fn bare_names_fold_their_case_only_if_one_column_fits() {
    let columns = vec![
        column(0, "host", DataType::String, SemanticType::Field),
        column(1, "Host", DataType::String, SemanticType::Field),
        column(2, "ts", DataType::Timestamp(TimeUnit::Second), SemanticType::TimeIndex),
        column(3, "say \"hi\"", DataType::Int32, SemanticType::Field),
    ];
    let schema = Schema::new(columns, vec![]).unwrap();
    assert_eq!(parse("Host = 'a'", &schema).unwrap().columns(), BTreeSet::from([ColumnId(1)]));
    assert_eq!(parse("TS = 0", &schema).unwrap().columns(), BTreeSet::from([ColumnId(2)]));
    assert!(matches!(parse("HOST = 'a'", &schema).unwrap_err().kind, ParseErrorKind::AmbiguousColumn { .. }));
    let odd = parse("\"say \"\"hi\"\"\" = 1", &schema).unwrap();
    assert_eq!(odd.columns(), BTreeSet::from([ColumnId(3)]));
    assert_eq!(odd.display(&schema).to_string(), "\"say \"\"hi\"\"\" = 1");
    assert_eq!(parse("Host < 'b'", &schema).unwrap().display(&schema).to_string(), "\"Host\" < 'b'");
}

#[test]
fn deep_nesting_is_refused_and_does_not_overflow_the_stack() {
    for (open, close) in [("(", ")"), ("NOT ", ""), ("NOT (", ")"), ("i = 1 OR (i = 2 AND (", "))")] {
        let text = format!("{}i = 1{}", open.repeat(100_000), close.repeat(100_000));
        assert_eq!(parse(&text, &schema()).unwrap_err().kind, ParseErrorKind::TooDeep, "{open}");
    }
    assert_eq!(rule(&format!("{}i = 1{}", "(".repeat(40), ")".repeat(40))), rule("i = 1"));
    let mut deep = rule("i = 1");
    for _ in 0..1000 {
        deep = deep.negated();
    }
    assert_eq!(deep.depth(), 1001);
    assert_eq!(deep.check(&schema()), Err(CheckError::TooDeep { found: 1001 }));
}

#[test]
fn the_deepest_rule_survives_json_with_room_to_spare() {
    let mut deep = rule("i = 1");
    while deep.depth() < limits::RULE_DEPTH_MAX {
        deep = if deep.depth().is_multiple_of(2) { Expr::And(vec![deep]) } else { Expr::Or(vec![deep]) };
    }
    let text = serde_json::to_string(&deep).unwrap();
    let wrapped = format!("{}{text}{}", "[".repeat(30), "]".repeat(30));
    assert!(serde_json::from_str::<serde_json::Value>(&wrapped).is_ok());
    assert_eq!(serde_json::from_str::<Expr>(&text).unwrap(), deep);
}

#[test]
fn a_rule_of_another_table_is_refused() {
    let unknown = Expr::Compare { column: ColumnId(99), op: CompareOp::Eq, value: Value::Null };
    assert_eq!(unknown.check(&schema()), Err(CheckError::UnknownColumn { column: ColumnId(99) }));
    assert_eq!(unknown.display(&schema()).to_string(), "column#99 IS NULL");
    let mistyped = Expr::In { column: I, values: vec![Value::Int(1), text("x")] };
    assert!(matches!(mistyped.check(&schema()), Err(CheckError::LiteralType { .. })));
    let large = Expr::In { column: I, values: vec![Value::Null; limits::RULE_NODES_MAX] };
    assert!(matches!(large.check(&schema()), Err(CheckError::TooLarge { .. })));
}

#[test]
fn versions_are_what_they_were_when_first_persisted() {
    let golden = [
        ("TRUE", "882123e67e56ace4f70d986cb0cf2287"),
        ("FALSE", "162cb9cc28041294ef99c171b0a9c37f"),
        ("i = 1", "f53e99b81d89a824fee288ad50a20326"),
        ("s >= 'a' AND s < 'm'", "54ecf4bc60af00423aed82b1e018df93"),
        ("NOT (i NOT IN (3, 1, 2) OR f = 'NaN' OR bin != X'00ff')", "5e8a1cdb91f6d04c902e0b6c1ee19213"),
        ("u <= 7 OR dec > -0.05 OR date IS NULL OR ts < '2024-01-01' OR \"Is\" = TRUE", "32dd9ef2be01a49718bda274e969d68f"),
    ];
    let (texts, versions): (Vec<&str>, Vec<&str>) = golden.into_iter().unzip();
    assert_eq!(texts.iter().map(|text| rule(text).version().to_string()).collect::<Vec<_>>(), versions);
    assert_eq!(versions[2].parse::<RuleVersion>().unwrap(), rule(texts[2]).version());
    assert_eq!("x".parse::<RuleVersion>().unwrap_err().kind, "rule version");
}

#[test]
fn rules_that_differ_only_in_writing_share_a_version() {
    let version = |text: &str| rule(text).version();
    assert_eq!(version("i = 1 AND s = 'a'"), version("NOT (s != 'a' OR (i <> 1))"));
    assert_eq!(version("i IN (2, 1, 2)"), version("i IN (1, 2)"));
    assert_eq!(version("i IN (1)"), version("i = 1"));
    assert_eq!(version("f = 0"), version("f = -0.0"));
    assert_ne!(version("i < 1"), version("i <= 1"));
    assert_ne!(version("i IN (1, 2)"), version("i NOT IN (1, 2)"));
}

/// A value of any type that a column of `schema()` has, and the column.
fn any_typed() -> impl Strategy<Value = (ColumnId, Value)> {
    let far = |id: u32| move |value| (ColumnId(id), value);
    prop_oneof![
        any::<i64>().prop_map(Value::Int).prop_map(far(0)),
        any::<f64>().prop_map(Value::Float).prop_map(far(1)),
        any::<String>().prop_map(Value::String).prop_map(far(2)),
        any::<i64>().prop_map(Value::Timestamp).prop_map(far(4)),
        (-100_000_000_000_000_i64..200_000_000_000_000).prop_map(Value::Timestamp).prop_map(far(4)),
        any::<i8>().prop_map(|v| Value::Int(v.into())).prop_map(far(5)),
        any::<u64>().prop_map(Value::UInt).prop_map(far(6)),
        any::<f32>().prop_map(|v| Value::Float(v.into())).prop_map(far(7)),
        any::<Vec<u8>>().prop_map(Value::Binary).prop_map(far(8)),
        any::<i32>().prop_map(Value::Date).prop_map(far(9)),
        (-800_000..3_000_000_i32).prop_map(Value::Date).prop_map(far(9)),
        (-9_999_999_999_i128..10_000_000_000).prop_map(Value::Decimal).prop_map(far(10)),
        any::<u16>().prop_map(|v| Value::UInt(v.into())).prop_map(far(11)),
        any::<i64>().prop_map(Value::Timestamp).prop_map(far(12)),
    ]
}

proptest! {
    #[test]
    fn any_literal_is_read_back_as_it_was_shown((column, value) in any_typed(), op in any_op()) {
        let expr = Expr::Compare { column, op, value };
        let text = shown(&expr);
        prop_assert_eq!(parse(&text, &schema()).map_err(|e| format!("{text}: {e}")), Ok(expr));
    }

    #[test]
    fn any_rule_is_read_back_as_it_was_shown(expr in any_expr()) {
        for expr in [expr.canonical(), expr] {
            let text = shown(&expr);
            let back = parse(&text, &schema()).map_err(|e| TestCaseError::fail(format!("{text}: {e}")))?;
            prop_assert_eq!(back.canonical(), expr.canonical(), "{}", text);
            prop_assert_eq!(back.version(), expr.version());
        }
    }

    #[test]
    fn the_canonical_form_is_a_fixed_point_that_means_the_same(expr in any_expr()) {
        let canonical = expr.canonical();
        prop_assert_eq!(canonical.canonical(), canonical.clone());
        for row in all_rows(&[&expr]) {
            prop_assert_eq!(holds(&canonical, &row), holds(&expr, &row));
        }
    }

    #[test]
    fn arbitrary_text_never_panics(text in ".{0,60}") {
        let _ = parse(&text, &schema());
    }

    #[test]
    fn arbitrary_tokens_never_panic(words in prop::collection::vec(prop::sample::select(vec![
        "i", "s", "f", "ts", "dec", "date", "(", ")", "AND", "OR", "NOT", "IN", "BETWEEN", "IS", "NULL", "TRUE", "=", "<=", "!=", ",", "-", "1",
        "1.5", "1e5", "1e", ".5", "'a'", "'2024-01-01'", "X'00'", "X'0", "\"i\"", "`s`", "DATE", "'é", "é", "'2024-01-01T00:00:00.+é'",
    ]), 0..24)) {
        let text = words.join(" ");
        if let Ok(expr) = parse(&text, &schema()) {
            prop_assert_eq!(expr.check(&schema()), Ok(()));
        }
        let _ = parse(&words.concat(), &schema());
    }
}
