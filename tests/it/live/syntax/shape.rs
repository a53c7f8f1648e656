use actix_shareddb::live_server;

live_server! {}

live_server! {
    async fn a_test(&mut self, live: &LiveServer) {}
}

live_server! {
    impl LiveServerTestCase for Todos {}
}

live_server! {
    impl Todos {}
}

live_server! {
    impl Todos {
        async fn a_test(&mut self, live: &LiveServer) {}

        fn a_helper(&self) {}
    }
}

live_server! {
    impl Todos {
        async fn a_test(live: &LiveServer) {}
    }
}

live_server! {
    impl Todos {
        async fn a_test(&mut self, live: &LiveServer) {}

        const LIST: &str = "shopping";
    }
}

fn main() {}
