//! Owns what a field is: its type, and what describe says of it. Does not own values.

use serde_json::{Value as Json, json};

/// What Salesforce calls the type of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FieldType {
    /// The record's own id.
    Id,
    /// Text on one line.
    String,
    /// Text on many lines.
    TextArea,
    /// One value of a list.
    Picklist,
    /// Several values of a list, joined by `;`.
    MultiPicklist,
    /// A telephone number.
    Phone,
    /// An e-mail address.
    Email,
    /// A web address.
    Url,
    /// The id of another record.
    Reference,
    /// Never null.
    Boolean,
    /// A whole number.
    Int,
    /// A number with a fraction.
    Double,
    /// Money.
    Currency,
    /// A share of a hundred.
    Percent,
    /// A day.
    Date,
    /// An instant, in whole seconds.
    Datetime,
    /// A compound of the fields that share its prefix.
    Address,
    /// Text of a kind that no client has heard of: Salesforce adds types with its releases.
    Hologram,
}

impl FieldType {
    /// The name in describe.
    #[must_use]
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::String => "string",
            Self::TextArea => "textarea",
            Self::Picklist => "picklist",
            Self::MultiPicklist => "multipicklist",
            Self::Phone => "phone",
            Self::Email => "email",
            Self::Url => "url",
            Self::Reference => "reference",
            Self::Boolean => "boolean",
            Self::Int => "int",
            Self::Double => "double",
            Self::Currency => "currency",
            Self::Percent => "percent",
            Self::Date => "date",
            Self::Datetime => "datetime",
            Self::Address => "address",
            Self::Hologram => "hologram",
        }
    }

    fn length(self) -> u32 {
        match self {
            Self::Id | Self::Reference => 18,
            Self::TextArea => 32_000,
            Self::MultiPicklist => 4_099,
            Self::Phone => 40,
            Self::Email => 80,
            Self::String | Self::Picklist | Self::Url | Self::Hologram => 255,
            _ => 0,
        }
    }

    fn precision_and_scale(self) -> (u32, u32) {
        match self {
            Self::Double | Self::Currency => (18, 2),
            Self::Percent => (5, 2),
            _ => (0, 0),
        }
    }
}

/// One field of an object.
#[derive(Clone, Debug)]
pub(super) struct Field {
    /// The API name.
    pub name: String,
    /// Its type.
    pub field_type: FieldType,
    /// A formula: its value moves without the record's modification stamp.
    pub calculated: bool,
    /// The compound this field is a part of.
    pub compound: Option<String>,
    /// Taken out of describe and of queries, as by a loss of permission.
    pub hidden: bool,
}

impl Field {
    /// A field that is neither calculated nor part of a compound.
    #[must_use]
    pub(super) fn new(name: &str, field_type: FieldType) -> Self {
        Self { name: name.to_owned(), field_type, calculated: false, compound: None, hidden: false }
    }

    /// What describe says of this field.
    #[must_use]
    pub(super) fn describe(&self) -> Json {
        let (precision, scale) = self.field_type.precision_and_scale();
        let nillable =
            self.field_type != FieldType::Boolean && !SYSTEM_FIELDS.iter().any(|(name, _)| *name == self.name);
        json!({
            "name": self.name, "label": self.name.trim_end_matches("__c").replace('_', " "),
            "type": self.field_type.name(), "nillable": nillable, "length": self.field_type.length(),
            "digits": if self.field_type == FieldType::Int { 9 } else { 0 }, "precision": precision, "scale": scale,
            "calculated": self.calculated, "compoundFieldName": self.compound, "custom": self.name.ends_with("__c"),
            "filterable": self.field_type != FieldType::Address, "sortable": self.field_type != FieldType::Address,
        })
    }
}

/// The fields of every object, at these places in every record.
pub(super) const SYSTEM_FIELDS: [(&str, FieldType); 5] = [
    ("Id", FieldType::Id),
    ("IsDeleted", FieldType::Boolean),
    ("CreatedDate", FieldType::Datetime),
    ("LastModifiedDate", FieldType::Datetime),
    ("SystemModstamp", FieldType::Datetime),
];

impl FieldType {
    /// The type that describe calls `name`; compounds and ids cannot be asked for.
    #[must_use]
    pub(super) fn named(name: &str) -> Option<Self> {
        use FieldType as T;
        let all = [
            T::String,
            T::TextArea,
            T::Picklist,
            T::MultiPicklist,
            T::Phone,
            T::Email,
            T::Url,
            T::Reference,
            T::Boolean,
            T::Int,
            T::Double,
            T::Currency,
            T::Percent,
            T::Date,
            T::Datetime,
            T::Hologram,
        ];
        all.into_iter().find(|field_type| field_type.name() == name)
    }
}
