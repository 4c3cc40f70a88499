//! The schema names every key, and says what it is for. What it takes is held to a validator in `tests/it`.

use serde_json::{Value, json};

use super::super::schema;

#[test]
fn every_key_is_described_with_its_default() {
    let schema = schema::schema();
    let lease = &schema["properties"]["relay"]["properties"]["lease"];
    assert_eq!(lease["default"], "10s");
    assert!(
        lease["description"]
            .as_str()
            .unwrap()
            .contains("A leader that is silent"),
        "{lease}"
    );
    let proxies = &schema["properties"]["push"]["properties"]["trusted_proxies"];
    assert_eq!(proxies["default"], json!(["127.0.0.0/8", "::1"]));
    let mut undescribed = Vec::new();
    visit(&schema, "", &mut undescribed);
    assert_eq!(undescribed, [""; 0]);
}

/// Keys without a description; what is inside an inline table is described with it.
fn visit(table: &Value, path: &str, undescribed: &mut Vec<String>) {
    let properties = table["properties"].as_object().into_iter().flatten();
    for (name, schema) in properties {
        let path = format!("{path}.{name}");
        let is_table = schema["properties"].is_object() && schema["minProperties"].is_null();
        let says_itself = [".kafka", ".relay", ".sources", ".sagas", ".admin"];
        let may_go_without = says_itself.contains(&path.as_str());
        if schema["description"].is_null() && !may_go_without {
            undescribed.push(path.clone());
        }
        if is_table && !path.ends_with(".batch") {
            visit(schema, &path, undescribed);
        }
    }
    if table["additionalProperties"].is_object() {
        visit(
            &table["additionalProperties"],
            &format!("{path}.*"),
            undescribed,
        );
    }
}
