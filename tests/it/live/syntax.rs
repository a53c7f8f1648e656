//! What can be written in `live_server!`, and what it says about the rest.

use actix_shareddb::{LiveServer, Result, live_server};

use super::Plain;

impl Plain {
    const PATH: &'static str = "/method";

    async fn body(&self, live: &LiveServer) -> Result<String> {
        let body = live.get(Self::PATH).send().await?.body().await?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }
}

live_server! {
    impl Plain {
        /// Has a doc comment,
        #[doc = "and another."]
        async fn a_method_of_the_type_can_be_called(&mut self, live: &LiveServer) -> Result<()> {
            let case = &mut *self;
            assert_eq!(case.body(live).await?, "GET");
            assert_eq!(Self::PATH, "/method");
            Ok(())
        }

        async fn any_error_that_can_be_shown_can_be_returned(&self, _: &LiveServer) -> std::result::Result<(), String> {
            Err::<(), _>("caught".to_owned()).or(Ok(()))
        }

        #[should_panic(expected = "the test failed: no milk")]
        async fn should_panic_sees_a_returned_error(&self, _: &LiveServer) -> Result<()> {
            Err(actix_shareddb::Error::other("no milk"))
        }

        #[cfg(any())]
        async fn cfg_leaves_a_test_out(&self, live: &NoSuchType) -> Missing {
            this_is_not_compiled()
        }

        #[expect(unused_variables, reason = "the attribute is what is tested")]
        async fn lint_attributes_reach_the_body(&self, browser: &LiveServer) {
            let unused = 1;
        }

        pub(crate) async fn a_test_can_be_called_by_others(&mut self, live: &LiveServer,) -> Result<()> {
            self.a_method_of_the_type_can_be_called(live).await
        }
    }

    impl super::Other {
        async fn a_second_block_is_for_another_case(&mut self, live: &LiveServer) {
            assert_eq!(live.get("/method").send().await.unwrap().status(), 200);
        }
    }
}

/// A name that the user has given to something else is no obstacle.
mod shadowed {
    #[expect(unused_imports, reason = "it shadows the test attribute")]
    use actix_web::test;

    actix_shareddb::live_server! {
        impl crate::live::Plain {
            async fn the_test_attribute_is_the_standard_one(&self, _: &actix_shareddb::LiveServer) {}
        }
    }
}

#[test]
fn what_is_wrong_is_named() {
    trybuild::TestCases::new().compile_fail("tests/it/live/syntax/shape.rs");
}
