//! Which lab image a Nublado business spawns, and how large.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::domain::validation::{Extra, Fields, FromInput, Input, Parsed, choices};

choices! {
    /// Classes of images that the hub resolves by itself.
    ImageClass, "literal_error", any_case = false, {
        /// The image that the Science Platform recommends.
        Recommended = "recommended",
        /// The newest release.
        LatestRelease = "latest-release",
        /// The newest weekly build.
        LatestWeekly = "latest-weekly",
        /// The newest daily build.
        LatestDaily = "latest-daily",
    }
}

choices! {
    /// Sizes of labs, from small to large.
    #[expect(missing_docs, reason = "the names are Nublado's own and say no more")]
    ImageSize, "enum", any_case = false, {
        Fine = "Fine",
        Diminutive = "Diminutive",
        Tiny = "Tiny",
        Small = "Small",
        Medium = "Medium",
        Large = "Large",
        Huge = "Huge",
        Gargantuan = "Gargantuan",
        Colossal = "Colossal",
    }
}

/// How an image is chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageSelector {
    /// By its class.
    Class(ImageClass),
    /// By its full Docker reference.
    Reference(String),
    /// By its tag.
    Tag(String),
}

/// Lab image of a Nublado business (`contracts/config.md` 6.3): recommended and large unless given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Which image.
    pub selector: ImageSelector,
    /// How large a lab.
    pub size: ImageSize,
    /// Whether the lab logs for debugging.
    pub debug: bool,
}

impl Image {
    /// Returns the fields of the hub's spawn form, in the order in which they are sent.
    pub fn spawn_form(&self) -> Vec<(&'static str, &str)> {
        let selected = match &self.selector {
            ImageSelector::Class(class) => ("image_class", class.as_str()),
            ImageSelector::Reference(reference) => ("image_list", reference.as_str()),
            ImageSelector::Tag(tag) => ("image_tag", tag.as_str()),
        };
        let mut form = vec![selected, ("size", self.size.as_str())];
        if self.debug {
            form.push(("enable_debug", "true"));
        }
        form
    }

    fn by_class(input: &Input<'_>) -> Option<Parsed<Self>> {
        let mut fields = input.model("NubladoImageByClass")?;
        let class = fields.or_alias_by("class", "image_class", ImageClass::Recommended, ImageClass::from_input);
        let (size, debug) = Self::common(&mut fields);
        let echo = fields.close(Extra::Forbidden)?;
        let selector = ImageSelector::Class(class);
        Some(Parsed::new(Self { selector, size, debug }, echo))
    }

    fn by_reference(input: &Input<'_>) -> Option<Parsed<Self>> {
        let mut fields = input.model("NubladoImageByReference")?;
        Self::class_is(&mut fields, "by-reference");
        let (size, debug) = Self::common(&mut fields);
        let reference = fields.required("reference");
        let echo = fields.close(Extra::Forbidden)?;
        let selector = ImageSelector::Reference(reference?);
        Some(Parsed::new(Self { selector, size, debug }, echo))
    }

    fn by_tag(input: &Input<'_>) -> Option<Parsed<Self>> {
        let mut fields = input.model("NubladoImageByTag")?;
        Self::class_is(&mut fields, "by-tag");
        let (size, debug) = Self::common(&mut fields);
        let tag = fields.required("tag");
        let echo = fields.close(Extra::Forbidden)?;
        let selector = ImageSelector::Tag(tag?);
        Some(Parsed::new(Self { selector, size, debug }, echo))
    }

    fn class_is(fields: &mut Fields<'_>, name: &'static str) {
        fields.or_alias_by("class", "image_class", (), |input| {
            input.choice("literal_error", &[(name, ())], false)
        });
    }

    fn common(fields: &mut Fields<'_>) -> (ImageSize, bool) {
        (fields.or("size", ImageSize::Large), fields.or("debug", false))
    }
}

impl Default for Image {
    fn default() -> Self {
        Self {
            selector: ImageSelector::Class(ImageClass::Recommended),
            size: ImageSize::Large,
            debug: false,
        }
    }
}

impl FromInput for Image {
    fn from_input(input: &Input<'_>) -> Option<Parsed<Self>> {
        input.first_of(&[
            ("NubladoImageByClass", Self::by_class),
            ("NubladoImageByReference", Self::by_reference),
            ("NubladoImageByTag", Self::by_tag),
        ])
    }
}

impl JsonSchema for Image {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Image".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let class = generator.subschema_for::<ImageClass>();
        let size = generator.subschema_for::<ImageSize>();
        json_schema!({
            "description": "A lab image by class (`class` or `image_class`), by `reference` or by `tag`.",
            "anyOf": [
                {
                    "type": "object",
                    "properties": { "class": class, "image_class": class, "size": size, "debug": { "type": "boolean" } },
                    "additionalProperties": false,
                },
                {
                    "type": "object",
                    "properties": {
                        "class": { "const": "by-reference" }, "image_class": { "const": "by-reference" },
                        "reference": { "type": "string" }, "size": size, "debug": { "type": "boolean" },
                    },
                    "required": ["reference"],
                    "additionalProperties": false,
                },
                {
                    "type": "object",
                    "properties": {
                        "class": { "const": "by-tag" }, "image_class": { "const": "by-tag" },
                        "tag": { "type": "string" }, "size": size, "debug": { "type": "boolean" },
                    },
                    "required": ["tag"],
                    "additionalProperties": false,
                },
            ],
        })
    }
}
