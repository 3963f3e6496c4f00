from app.config.schema import RunConfig, parse
from app.config.sections import settings


def test_every_setting_has_help_label_and_a_valid_default() -> None:
    for name, field in settings():
        assert field.description, name
        assert isinstance(field.json_schema_extra, dict) and field.json_schema_extra["label"], name
    assert RunConfig() == parse({})
