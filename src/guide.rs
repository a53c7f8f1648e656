//! From nothing to a first suite, and from other ways of testing to this one.

#[doc = include_str!("guide/first_suite.md")]
pub mod first_suite {}

#[doc = include_str!("guide/http.md")]
pub mod http {}

#[doc = include_str!("guide/see_and_steer.md")]
pub mod see_and_steer {}

#[doc = include_str!("guide/from_zero_to_production.md")]
pub mod from_zero_to_production {}

#[doc = include_str!("guide/from_init_service.md")]
pub mod from_init_service {}

#[doc = include_str!("guide/from_sqlx_test.md")]
pub mod from_sqlx_test {}

#[doc = include_str!("guide/from_django.md")]
pub mod from_django {}

#[doc = include_str!("guide/other_pools.md")]
pub mod other_pools {}
