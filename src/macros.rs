//! `live_server!`: tests written as methods.

/// Turns methods of a [`LiveServerTestCase`](crate::LiveServerTestCase) into tests.
///
/// The input is ordinary Rust: one or more `impl` blocks of `async` methods that take the case and the
/// [`LiveServer`](crate::LiveServer). Each method becomes a `#[test]` of the same name, where the macro stands, and
/// stays a method that others can call. It returns `()` or a `Result<(), E>`.
///
/// ```no_run
/// # use std::net::TcpListener;
/// # use actix_shareddb::{LiveServer, LiveServerTestCase, Pool, Result, live_server};
/// # #[derive(Default)]
/// # struct Todos;
/// # impl LiveServerTestCase for Todos {
/// #     async fn serve(&self, _: TcpListener, _: Pool) -> Result<actix_web::dev::Server> { unimplemented!() }
/// # }
/// live_server! {
///     impl Todos {
///         /// Attributes of a test work as they do on any other.
///         #[ignore = "needs the mail server"]
///         async fn a_reminder_is_sent(&mut self, live: &LiveServer) -> Result<()> {
///             assert_eq!(live.post("/reminders").send().await?.status(), 202);
///             Ok(())
///         }
///
///         #[should_panic(expected = "no such list")]
///         async fn an_unknown_list_is_refused(&self, live: &LiveServer) {
///             self.open("no such list", live).await;
///         }
///     }
/// }
///
/// // What tests share is an ordinary method, outside of the macro.
/// impl Todos {
///     async fn open(&self, list: &str, live: &LiveServer) {
///         let response = live.get(&format!("/lists/{list}")).send().await;
///         assert!(response.is_ok_and(|response| response.status() == 200), "{list}");
///     }
/// }
/// ```
///
/// `#[isolation(Database)]` gives a test a database of its own, `#[isolation(Transaction)]` the shared transaction, whatever
/// its case and the environment say: see [`Isolation`](crate::Isolation).
///
/// rustfmt leaves the inside of macros alone. A test that is long enough for that to matter can call a function that
/// isn't inside one.
#[macro_export]
macro_rules! live_server {
    ($(
        impl $case:ty {$(
            $(#[$($attribute:tt)*])*
            $visibility:vis async fn $name:ident(& $($parameters:tt)*) $(-> $output:ty)? { $($body:tt)* }
        )+}
    )+) => {$($(
        $crate::live_server! {
            @test [::core::option::Option::None] []
            $(#[$($attribute)*])*
            impl $case {
                $visibility async fn $name(& $($parameters)*) $(-> $output)? { $($body)* }
            }
        }
    )+)+};

    // A test. Among its attributes is looked for the one that is ours. Documentation comes in many lines, and a macro can't
    // call itself too often.
    (
        @test [$($isolation:tt)*] [$($kept:tt)*]
        #[doc = $a:literal] #[doc = $b:literal] #[doc = $c:literal] #[doc = $d:literal]
        #[doc = $e:literal] #[doc = $f:literal] #[doc = $g:literal] #[doc = $h:literal]
        $($rest:tt)*
    ) => {
        $crate::live_server! {
            @test [$($isolation)*] [
                $($kept)*
                #[doc = $a] #[doc = $b] #[doc = $c] #[doc = $d] #[doc = $e] #[doc = $f] #[doc = $g] #[doc = $h]
            ]
            $($rest)*
        }
    };
    (@test [$($isolation:tt)*] [$($kept:tt)*] #[isolation($kind:ident)] $($rest:tt)*) => {
        $crate::live_server! { @test [::core::option::Option::Some($crate::Isolation::$kind)] [$($kept)*] $($rest)* }
    };
    (@test [$($isolation:tt)*] [$($kept:tt)*] #[isolation $($wrong:tt)*] $($rest:tt)*) => {
        ::core::compile_error!("a test's isolation is written `#[isolation(Database)]` or `#[isolation(Transaction)]`");
    };
    (@test [$($isolation:tt)*] [$($kept:tt)*] #[$($attribute:tt)*] $($rest:tt)*) => {
        $crate::live_server! { @test [$($isolation)*] [$($kept)* #[$($attribute)*]] $($rest)* }
    };
    (
        @test [$($isolation:tt)*] [$($kept:tt)*]
        impl $case:ty {
            $visibility:vis async fn $name:ident(& $($parameters:tt)*) $(-> $output:ty)? { $($body:tt)* }
        }
    ) => {
        $($kept)*
        #[::core::prelude::v1::test]
        fn $name() {
            // The method stands inside of the test, so that an attribute of the one covers the other.
            #[allow(non_local_definitions, reason = "the type belongs to the module around")]
            impl $case {
                $visibility async fn $name(& $($parameters)*) $(-> $output)? { $($body)* }
            }
            $crate::__private::run_in(
                $($isolation)*,
                ::core::concat!(::core::module_path!(), "::", ::core::stringify!($name)),
                async |case: &mut $case, live: &$crate::LiveServer| case.$name(live).await,
            )
        }
    };

    // What gets here is wrong. The first thing that is gets named.
    () => {
        ::core::compile_error!(
            "`live_server!` is empty; it takes `impl YourCase { async fn a_test(&mut self, live: &LiveServer) { .. } }`"
        );
    };
    (@methods $case:ty {}) => {};
    (@methods $case:ty {
        $(#[$attribute:meta])*
        $visibility:vis async fn $name:ident(& $($parameters:tt)*) $(-> $output:ty)? { $($body:tt)* }
        $($rest:tt)*
    }) => {
        $crate::live_server! { @methods $case { $($rest)* } }
    };
    (@methods $case:ty {
        $(#[$attribute:meta])*
        $visibility:vis async fn $name:ident($($parameters:tt)*) $($rest:tt)*
    }) => {
        ::core::compile_error!(::core::concat!(
            "the test `", ::core::stringify!($name),
            "` does not borrow its case; it is written `async fn ", ::core::stringify!($name),
            "(&mut self, live: &LiveServer)`"
        ));
    };
    (@methods $case:ty {
        $(#[$attribute:meta])*
        $visibility:vis fn $name:ident $($rest:tt)*
    }) => {
        ::core::compile_error!(::core::concat!(
            "the test `", ::core::stringify!($name),
            "` is not `async`; a method that is no test belongs in an `impl` outside of `live_server!`"
        ));
    };
    (@methods $case:ty { $($rest:tt)* }) => {
        ::core::compile_error!(::core::concat!(
            "`impl ", ::core::stringify!($case), "` in `live_server!` holds something other than \
             `async fn a_test(&mut self, live: &LiveServer) { .. }`; such an item belongs in an `impl` outside of it"
        ));
    };
    (@blocks) => {};
    (@blocks impl $case:ty {} $($rest:tt)*) => {
        ::core::compile_error!(::core::concat!(
            "`impl ", ::core::stringify!($case), "` in `live_server!` holds no test"
        ));
    };
    (@blocks impl $case:ty { $($methods:tt)* } $($rest:tt)*) => {
        $crate::live_server! { @methods $case { $($methods)* } }
        $crate::live_server! { @blocks $($rest)* }
    };
    (@blocks $($rest:tt)*) => {
        ::core::compile_error!(
            "`live_server!` takes blocks of the form `impl YourCase { .. }`, without a trait, generics or attributes, \
             and nothing else"
        );
    };
    ($($blocks:tt)*) => {
        $crate::live_server! { @blocks $($blocks)* }
    };
}
