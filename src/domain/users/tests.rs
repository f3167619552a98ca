use std::collections::BTreeSet;

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::ids::Revision;
use super::*;

#[expect(clippy::needless_pass_by_value, reason = "dozens of callers pass a literal")]
fn flock(count: u64, users: Value) -> FlockConfig {
    let mut flock = json!({
        "name": "facts", "count": count, "scopes": [], "business": {"type": "EmptyLoop"},
    });
    for (key, value) in users.as_object().unwrap() {
        flock[key] = value.clone();
    }
    FlockConfig::parse(&flock).unwrap()
}

fn spec(count: u64) -> FlockConfig {
    flock(count, json!({"user_spec": {"username_prefix": "bot-mobu-x"}}))
}

fn replica(id: &str, replica_count: u32) -> ReplicaIdentity {
    ReplicaIdentity {
        instance_id: Some(id.parse().unwrap()),
        replica_count,
    }
}

fn names(config: &FlockConfig, replica: &ReplicaIdentity) -> Vec<String> {
    let users = users_of(config, replica).unwrap();
    users.iter().map(|user| user.username.to_string()).collect()
}

fn ids(ids: &[&str]) -> Vec<InstanceId> {
    ids.iter().map(|id| id.parse().unwrap()).collect()
}

#[test]
fn one_replica_numbers_its_users_as_mobu_does() {
    let alone = ReplicaIdentity {
        instance_id: None,
        replica_count: 1,
    };
    assert_eq!(names(&spec(2), &alone), ["bot-mobu-x1", "bot-mobu-x2"]);
    assert_eq!(names(&spec(9), &alone).last().unwrap(), "bot-mobu-x9");
    assert_eq!(names(&spec(10), &alone).first().unwrap(), "bot-mobu-x01");
    assert_eq!(names(&spec(100), &alone).first().unwrap(), "bot-mobu-x001");
    assert_eq!(names(&spec(2), &replica("7", 0)), names(&spec(2), &alone));
}

#[test]
fn every_replica_of_several_makes_all_users_under_its_own_names() {
    let config = spec(11);
    assert_eq!(
        names(&config, &replica("2", 4))[..2],
        ["bot-mobu-x-instance-2-01", "bot-mobu-x-instance-2-02"]
    );
    assert_eq!(names(&config, &replica("west", 4)).len(), 11);
}

#[test]
fn numbers_count_on_and_groups_are_shared() {
    let config = flock(
        3,
        json!({"user_spec": {
            "username_prefix": "bot-mobu-x", "uid_start": 1000, "gid_start": 2000, "groups": [{"name": "g", "id": 5}],
        }}),
    );
    let users = users_of(&config, &replica("0", 1)).unwrap();
    assert_eq!(
        serde_json::to_value(&users[2]).unwrap(),
        json!({"username": "bot-mobu-x3", "uidnumber": 1002, "gidnumber": 2002, "groups": [{"name": "g", "id": 5}]})
    );
}

#[test]
fn users_across_replicas_are_dealt_out_as_mobu_19_does() {
    let config = flock(
        7,
        json!({"spread": "across_replicas", "user_spec": {
            "username_prefix": "bot-mobu-x", "uid_start": 100,
        }}),
    );
    assert_eq!(names(&config, &replica("1", 3)), ["bot-mobu-x2", "bot-mobu-x5"]);
    let users = users_of(&config, &replica("1", 3)).unwrap();
    assert_eq!(
        users.iter().map(|user| user.uidnumber).collect::<Vec<_>>(),
        [Some(101), Some(104)]
    );
}

#[test]
fn batches_across_replicas_are_divided_and_never_empty() {
    let batches = |spread: &str| {
        flock(
            9,
            json!({
                "spread": spread, "user_spec": {"username_prefix": "bot-mobu-x"},
                "start_batch_size": 5, "start_batch_wait": 1,
            }),
        )
    };
    assert_eq!(batch_size_of(&batches("across_replicas"), &replica("0", 2)), Some(2));
    assert_eq!(batch_size_of(&batches("across_replicas"), &replica("0", 9)), Some(1));
    assert_eq!(batch_size_of(&batches("per_replica"), &replica("0", 9)), Some(5));
    assert_eq!(batch_size_of(&spec(9), &replica("0", 9)), None);
}

#[test]
fn the_later_of_two_equal_names_takes_the_place_of_the_earlier() {
    let config = flock(
        3,
        json!({"users": [
            {"username": "bot-mobu-a", "uidnumber": 1}, {"username": "bot-mobu-b"}, {"username": "bot-mobu-a", "uidnumber": 2},
        ]}),
    );
    let users = users_of(&config, &replica("0", 1)).unwrap();
    assert_eq!(users.len(), 2);
    assert_eq!(users[0].uidnumber, Some(2));
}

#[test]
fn several_replicas_refuse_what_would_be_the_same_on_all() {
    let listed = json!([{"username": "bot-mobu-a"}]);
    let config = flock(1, json!({ "users": listed }));
    let errors = check_fleet_rules(&config, 3, &ids(&["0", "1", "2"])).unwrap_err();
    assert_eq!(
        serde_json::to_value(&errors).unwrap(),
        json!([{
            "type": "value_error",
            "loc": ["body", "users"],
            "msg": "Value error, Only user_spec users are allowed if replica_count > 1",
            "input": listed,
            "ctx": {"error": {}},
        }])
    );
    assert_eq!(users_of(&config, &replica("0", 3)), Err(UserRuleError::Users));
    assert_eq!(check_fleet_rules(&config, 1, &[]), Ok(()));

    let config = flock(
        1,
        json!({"user_spec": {"username_prefix": "bot-mobu-x", "uid_start": 5, "gid_start": 6}}),
    );
    let errors = check_fleet_rules(&config, 2, &ids(&["0", "1"])).unwrap_err();
    let found: Vec<_> = errors
        .0
        .iter()
        .map(|item| (json!(item.loc), item.input.clone()))
        .collect();
    assert_eq!(
        found,
        [
            (json!(["body", "user_spec", "uid_start"]), json!(5)),
            (json!(["body", "user_spec", "gid_start"]), json!(6)),
        ]
    );
    assert!(errors.to_string().contains("spread: across_replicas"), "{errors}");
    assert_eq!(
        users_of(&config, &replica("0", 2)),
        Err(UserRuleError::Numbers { field: "uid_start" })
    );
}

#[test]
fn users_across_replicas_need_numbered_replicas() {
    let config = flock(
        1,
        json!({"spread": "across_replicas", "users": [{"username": "bot-mobu-a"}]}),
    );
    assert_eq!(check_fleet_rules(&config, 3, &ids(&["0", "1", "2"])), Ok(()));
    assert_eq!(check_fleet_rules(&config, 3, &[]), Ok(()));
    for wrong in ["3", "01", "west"] {
        let errors = check_fleet_rules(&config, 3, &ids(&["0", wrong])).unwrap_err();
        assert_eq!(errors.0.len(), 1);
        assert_eq!(json!(errors.0[0].loc), json!(["body", "spread"]));
        assert!(
            errors.to_string().contains(&format!("IDs 0 to 2, and `{wrong}`")),
            "{errors}"
        );
        assert!(users_of(&config, &replica(wrong, 3)).is_err());
    }
    let nameless = ReplicaIdentity {
        instance_id: None,
        replica_count: 3,
    };
    assert_eq!(users_of(&config, &nameless), Err(UserRuleError::NoInstanceId));
}

#[test]
fn a_flock_that_is_dealt_out_knows_among_how_many() {
    let mut flock = DesiredFlock {
        config: flock(
            5,
            json!({"spread": "across_replicas", "user_spec": {"username_prefix": "bot-mobu-x"}}),
        ),
        generation: Revision(1),
        refresh_generation: Revision(1),
        since: Timestamp::UNIX_EPOCH,
        autostart: None,
        by_autostart: false,
        among: None,
        was_among: None,
    };
    let users = |flock: &DesiredFlock, id: &str, configured: u32| {
        let identity = replica(id, configured).in_flock(flock);
        identity.map_or(0, |identity| users_of(&flock.config, &identity).unwrap().len())
    };
    assert_eq!(users(&flock, "0", 2), 3, "as it is configured for");
    flock.among = Some(4);
    assert_eq!(
        ["0", "1", "2", "3", "4"].map(|id| users(&flock, id, 2)),
        [2, 1, 1, 1, 0]
    );
    flock.among = Some(1);
    assert_eq!(["0", "1"].map(|id| users(&flock, id, 2)), [5, 0]);
    flock.among = Some(0);
    assert_eq!(["0", "1"].map(|id| users(&flock, id, 2)), [0, 0]);
    flock.config.spread = Spread::PerReplica;
    assert_eq!(users(&flock, "0", 2), 5, "others do not care");
}

#[test]
fn names_that_gafaelfawr_would_refuse_are_refused_before_anything_starts() {
    let prefix = |prefix: &str| flock(10, json!({"user_spec": {"username_prefix": prefix}}));
    for (wrong, instance_ids, replica_count) in [
        ("joe", vec!["0"], 1),
        ("bot-mobux_", vec!["0"], 1),
        ("bot-mobu-X", vec!["0"], 1),
        ("bot-mobu-", vec!["0", "1"], 2),
        ("bot-mobu-x", vec!["0", "west.1"], 2),
        ("bot-mobu-x", vec!["0", "West"], 2),
        (
            "bot-mobu-0123456789-0123456789-0123456789-0123456789-0123456789",
            vec![],
            1,
        ),
        ("", vec![], 3),
    ] {
        let errors = check_fleet_rules(&prefix(wrong), replica_count, &ids(&instance_ids)).unwrap_err();
        assert_eq!(errors.0.len(), 1, "{errors}");
        assert_eq!(
            json!(errors.0[0].loc),
            json!(["body", "user_spec", "username_prefix"]),
            "{wrong}"
        );
        assert_eq!(errors.0[0].input, json!(wrong));
    }
    for right in ["bot-mobu-", "bot-mobu", "bot-mobux"] {
        assert_eq!(check_fleet_rules(&prefix(right), 1, &[]), Ok(()), "{right}");
    }
    let root: [Loc; 2] = ["autostart".into(), 4.into()];
    let errors = check_fleet_rules_at(&prefix("joe"), 1, &[], &root).unwrap_err();
    assert!(
        errors
            .to_string()
            .starts_with("autostart.4.user_spec.username_prefix: "),
        "{errors}"
    );
}

proptest! {
    #[test]
    fn no_two_replicas_make_one_name(
        count in 1_u64..30,
        known in proptest::collection::btree_set("[a-z0-9]([a-z0-9-]{0,3}[a-z0-9])?", 2..6),
        prefix in "bot-mobu(-?[a-z0-9]){0,4}",
    ) {
        let config = flock(count, json!({"user_spec": {"username_prefix": prefix}}));
        let replica_count = u32::try_from(known.len()).unwrap();
        let mut seen = BTreeSet::new();
        for id in &known {
            // A replica whose names would be refused makes none.
            let Ok(users) = users_of(&config, &replica(id, replica_count)) else { continue };
            for user in users {
                prop_assert!(is_accepted(user.username.as_str()));
                prop_assert!(seen.insert(user.username.to_string()), "{} twice", user.username);
            }
        }
    }

    #[test]
    fn replicas_deal_out_exactly_the_whole_list(count in 1_u64..60, replica_count in 1_u32..9, listed in any::<bool>()) {
        let users: Vec<Value> = (0..count).map(|i| json!({"username": format!("bot-mobu-{i}")})).collect();
        let users = if listed {
            json!({"users": users, "spread": "across_replicas"})
        } else {
            json!({"user_spec": {"username_prefix": "bot-mobu-x", "uid_start": 1}, "spread": "across_replicas"})
        };
        let config = flock(count, users);
        let whole = users_of(&config, &replica("0", 1)).unwrap();
        let shares: Vec<Vec<User>> = (0..replica_count)
            .map(|k| users_of(&config, &replica(&k.to_string(), replica_count)).unwrap())
            .collect();
        prop_assert_eq!(shares.iter().map(Vec::len).sum::<usize>(), whole.len());
        let n = shares.len();
        for (position, user) in whole.iter().enumerate() {
            prop_assert_eq!(&shares[position % n][position / n], user);
        }
    }
}

#[test]
fn a_range_tells_of_users_without_making_them() {
    let list = json!({"users": [{"username": "bot-mobu-a"}, {"username": "bot-mobu-b"}, {"username": "bot-mobu-c"}]});
    let across = |count: u64| {
        let users =
            json!({"user_spec": {"username_prefix": "bot-mobu-x", "uid_start": 5}, "spread": "across_replicas"});
        flock(count, users)
    };
    let alone = replica("0", 1);
    let mut cases = vec![
        (spec(1), alone.clone()),
        (spec(10), alone.clone()),
        (flock(3, list), alone),
    ];
    for id in ["0", "1", "3"] {
        cases.push((spec(11), replica(id, 4)));
        cases.extend([1, 3, 4, 5, 8, 11].map(|count| (across(count), replica(id, 4))));
    }
    for (config, replica) in cases {
        let names = names(&config, &replica);
        let range = range_of(&config, &replica).unwrap();
        assert_eq!(range.count, names.len() as u64);
        assert_eq!(
            (range.first, range.last),
            (names.first().cloned(), names.last().cloned())
        );
    }
    let shared = flock(1, json!({"users": [{"username": "bot-mobu-a"}]}));
    assert_eq!(range_of(&shared, &replica("0", 2)), Err(UserRuleError::Users));
}
