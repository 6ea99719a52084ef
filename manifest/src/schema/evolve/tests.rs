//! Evolution of schemas.

use proptest::prelude::*;

use super::*;

fn column(id: u32, name: &str, data_type: DataType, semantic: SemanticType) -> Column {
    let nullable = semantic != SemanticType::TimeIndex;
    Column { id: ColumnId(id), name: name.into(), data_type, semantic, nullable, default: None, comment: None }
}

fn cpu() -> Schema {
    let columns = vec![
        column(0, "host", DataType::String, SemanticType::Tag),
        column(1, "ts", DataType::Timestamp(TimeUnit::Millisecond), SemanticType::TimeIndex),
        column(2, "usage", DataType::Int32, SemanticType::Field),
    ];
    Schema::new(columns, vec![ColumnId(0)]).unwrap()
}

fn added(name: &str, place: Place) -> ColumnChange {
    ColumnChange::Add { column: column(99, name, DataType::Int64, SemanticType::Field), place }
}

fn drop_column(name: &str) -> ColumnChange {
    ColumnChange::Drop { name: name.into() }
}

fn modify(name: &str, data_type: DataType) -> ColumnChange {
    ColumnChange::Modify { name: name.into(), data_type }
}

fn names(schema: &Schema) -> Vec<&str> {
    schema.columns().iter().map(|column| column.name.as_str()).collect()
}

#[test]
fn columns_are_added_where_they_are_asked_for() {
    let changes = [added("a", Place::First), added("b", Place::After("a".into())), added("c", Place::Last)];
    let next = cpu().evolve(&changes, &[]).unwrap();
    assert_eq!(names(&next), ["a", "b", "host", "ts", "usage", "c"]);
    assert_eq!((next.version(), next.next_column_id()), (2, ColumnId(6)));
    cpu().check_successor(&next).unwrap();
    assert_eq!(cpu().evolve(&[added("a", Place::After("zz".into()))], &[]).unwrap_err(), EvolveError::NoColumn { column: "zz".into() });
    assert!(matches!(cpu().evolve(&[added("usage", Place::Last)], &[]), Err(EvolveError::Schema(SchemaError::DuplicateName { .. }))));
}

#[test]
fn a_column_that_comes_back_is_another_column() {
    let next = cpu().evolve(&[drop_column("usage"), added("usage", Place::Last)], &[]).unwrap();
    assert_eq!(next.column_by_name("usage").unwrap().id, ColumnId(3));
    assert_eq!(next.column(ColumnId(2)), None);
    cpu().check_successor(&next).unwrap();
}

#[test]
fn key_columns_stay_as_they_are() {
    for name in ["host", "ts"] {
        assert!(matches!(cpu().evolve(&[drop_column(name)], &[]), Err(EvolveError::KeyColumn { verb: "dropped", .. })));
        assert!(matches!(cpu().evolve(&[modify(name, DataType::Binary)], &[]), Err(EvolveError::KeyColumn { .. })));
    }
    assert!(matches!(cpu().evolve(&[drop_column("usage")], &[ColumnId(2)]), Err(EvolveError::KeyColumn { .. })));
}

#[test]
fn a_new_tag_is_the_last_of_the_key() {
    let tag = ColumnChange::Add { column: column(0, "dc", DataType::String, SemanticType::Tag), place: Place::First };
    let next = cpu().evolve(&[tag], &[]).unwrap();
    assert_eq!(next.primary_key(), [ColumnId(0), ColumnId(3)]);
    cpu().check_successor(&next).unwrap();
}

#[test]
fn a_column_that_may_not_be_null_needs_a_constant_for_older_rows() {
    let mut strict = column(0, "n", DataType::Timestamp(TimeUnit::Second), SemanticType::Field);
    strict.nullable = false;
    let add = |default: Option<ColumnDefault>| {
        let column = Column { default, ..strict.clone() };
        cpu().evolve(&[ColumnChange::Add { column, place: Place::Last }], &[])
    };
    assert_eq!(add(None).unwrap_err(), EvolveError::NeedsDefault { column: "n".into() });
    assert_eq!(add(Some(ColumnDefault::CurrentTimestamp)).unwrap_err(), EvolveError::NeedsDefault { column: "n".into() });
    add(Some(ColumnDefault::Value(Value::Timestamp(7)))).unwrap();
}

#[test]
fn types_widen_and_never_narrow() {
    let mut schema = cpu();
    schema.columns[2].default = Some(ColumnDefault::Value(Value::Int(7)));
    let next = schema.evolve(&[modify("usage", DataType::Float64)], &[]).unwrap();
    assert_eq!(next.columns()[2].default, Some(ColumnDefault::Value(Value::Float(7.0))));
    schema.check_successor(&next).unwrap();
    for narrower in [DataType::Int16, DataType::UInt32, DataType::Float32, DataType::String] {
        assert!(matches!(schema.evolve(&[modify("usage", narrower)], &[]), Err(EvolveError::NotWidening { .. })), "{narrower}");
    }
    assert!(next.check_successor(&schema).is_err(), "an older schema passed for a later one");
}

#[test]
fn what_does_not_follow_is_refused() {
    let schema = cpu();
    let later = |change: &dyn Fn(&mut Schema)| {
        let mut next = schema.evolve(&[], &[]).unwrap();
        change(&mut next);
        schema.check_successor(&next)
    };
    later(&|_| {}).unwrap();
    assert!(later(&|next| next.columns[2].data_type = DataType::Int8).is_err());
    assert!(later(&|next| next.columns[2].nullable = false).is_err());
    assert!(later(&|next| next.columns[2].default = Some(ColumnDefault::Value(Value::Int(1)))).is_err());
    assert!(later(&|next| next.primary_key.clear()).is_err());
    assert!(later(&|next| next.next_column_id = ColumnId(0)).is_err());
    assert!(later(&|next| next.version = 1).is_err());
    let dropped = schema.evolve(&[drop_column("usage")], &[]).unwrap();
    assert!(dropped.check_successor(&schema.evolve(&[], &[]).unwrap().evolve(&[], &[]).unwrap()).is_err(), "an id came back");
}

#[test]
fn decimals_widen_if_no_digit_is_lost() {
    let decimal = |precision, scale| DataType::Decimal { precision, scale };
    assert!(decimal(10, 2).widens_to(decimal(12, 4)) && decimal(10, 2).widens_to(decimal(11, 2)));
    assert!(!decimal(10, 2).widens_to(decimal(11, 4)) && !decimal(10, 2).widens_to(decimal(12, 1)));
    assert_eq!(widen_value(&Value::Decimal(-123), decimal(10, 2), decimal(12, 4)), Value::Decimal(-12_300));
}

proptest! {
    /// Widening keeps values and their order; each integer survives the way there.
    #[test]
    fn widened_values_fit_and_keep_their_order(a in any::<i32>(), b in any::<i32>()) {
        use DataType as T;
        let types = [T::Int8, T::Int16, T::Int32, T::Int64, T::UInt8, T::UInt16, T::UInt32, T::UInt64, T::Float32, T::Float64, T::Date];
        let units = [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond];
        let all: Vec<T> = types.into_iter().chain(units.map(T::Timestamp)).collect();
        let of = |data_type: T, v: i32| [Value::Int(v.into()), Value::UInt(v.unsigned_abs().into()), Value::Date(v), Value::Float(v.into())]
            .into_iter().find(|value| data_type.accepts(value));
        for from in &all {
            for to in all.iter().filter(|to| from.widens_to(**to)) {
                let (Some(x), Some(y)) = (of(*from, a), of(*from, b)) else { continue };
                let (wide_x, wide_y) = (widen_value(&x, *from, *to), widen_value(&y, *from, *to));
                prop_assert!(to.accepts(&wide_x), "{from} {x:?} as {to} is {wide_x:?}");
                prop_assert_eq!(x.cmp(&y), wide_x.cmp(&wide_y));
            }
        }
    }
}
