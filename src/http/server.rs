//! The two addresses: sockets, limits on slow and silent clients, and shutting down without losing a request.
//!
//! Never: a connection that may stay for ever without doing anything.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    task::{Context, Poll},
};

use axum::{ServiceExt, body::Body, http::Request};
use axum_server::{
    Handle,
    accept::Accept,
    tls_rustls::{RustlsAcceptor, RustlsConfig},
};
use hyper_util::rt::TokioTimer;
use quick_cache::sync::Cache;
use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore, watch},
};
use tower::Service;

use super::{
    CallerKind, Certificate, Metrics, OWN_SLUGS_MAX, State,
    edge::{Edge, Side},
    router,
};
use crate::{config::Limits, services::Services};

/// Headers larger than this end the connection with a bare 431; smaller ones that are still too large get one with a body.
const HEADER_BYTES_READ_MAX: usize = 128 << 10;

/// Connections to the admin address at once. Apart from the API's, so that a flood there does not hide the metrics.
const ADMIN_CONNECTIONS_MAX: usize = 100;

/// Both addresses, bound but not yet serving.
pub struct Server {
    api: TcpListener,
    admin: TcpListener,
    tls: Option<RustlsConfig>,
    handle: Handle<SocketAddr>,
    stopping: watch::Sender<bool>,
    limits: Limits,
}

impl Server {
    /// Binds both addresses.
    pub fn bind(listen: SocketAddr, admin_listen: SocketAddr, limits: Limits) -> io::Result<Self> {
        let bind = |address: SocketAddr, option: &str| {
            let listener = TcpListener::bind(address).map_err(|error| {
                io::Error::new(error.kind(), format!("{option} {address}: {error}"))
            })?;
            listener.set_nonblocking(true)?;
            Ok::<_, io::Error>(listener)
        };
        Ok(Self {
            api: bind(listen, "--listen")?,
            admin: bind(admin_listen, "--admin-listen")?,
            tls: None,
            handle: Handle::new(),
            stopping: watch::Sender::new(false),
            limits,
        })
    }

    /// The API's address speaks TLS with this certificate, and nothing else. The operator's stays plain.
    pub fn with_tls(self, certificate: &Certificate) -> Self {
        Self {
            tls: Some(certificate.config()),
            ..self
        }
    }

    /// Where the API listens; tells the port where the system chose it.
    pub fn api_address(&self) -> io::Result<SocketAddr> {
        self.api.local_addr()
    }

    /// Where the operator's address is.
    pub fn admin_address(&self) -> io::Result<SocketAddr> {
        self.admin.local_addr()
    }

    /// Stops accepting; what runs may finish within [`Limits::drain`]. [`Server::run`] then returns.
    pub fn stopper(&self) -> impl FnOnce() + use<> {
        let (handle, stopping) = (self.handle.clone(), self.stopping.clone());
        let drain = self.limits.drain;
        move || {
            stopping.send_replace(true);
            handle.graceful_shutdown(Some(drain));
        }
    }

    /// Serves until stopped.
    pub async fn run(self, services: Arc<Services>, metrics: Arc<Metrics>) -> io::Result<()> {
        let state = Arc::new(State {
            services,
            metrics,
            streams: Arc::default(),
            scanning: Default::default(),
            stopping: self.stopping.subscribe(),
            own_slugs: Cache::new(OWN_SLUGS_MAX),
        });
        let serve = |listener, side, tls: Option<RustlsConfig>, connections_max| {
            let router = router(Arc::clone(&state), move |caller| match side {
                Side::Api => caller != CallerKind::Operator,
                Side::Admin => matches!(caller, CallerKind::Anyone | CallerKind::Operator),
            });
            let edge = Edge::new(Arc::clone(&state), router, side);
            let acceptor = Acceptor {
                permits: Arc::new(Semaphore::new(connections_max)),
                limits: self.limits,
            };
            let handle = self.handle.clone();
            async move {
                let mut server = axum_server::from_tcp(listener)?.http1_only().handle(handle);
                server
                    .http_builder()
                    .http1()
                    .timer(TokioTimer::new())
                    .header_read_timeout(self.limits.header_timeout)
                    .max_buf_size(HEADER_BYTES_READ_MAX);
                let make = ServiceExt::<Request<Body>>::into_make_service_with_connect_info::<
                    SocketAddr,
                >(edge);
                match tls {
                    None => server.acceptor(acceptor).serve(make).await,
                    // The socket is prepared, and its place among all taken, before the handshake begins: a client that is
                    // silent in it is counted too.
                    Some(config) => {
                        let acceptor = RustlsAcceptor::new(config)
                            .handshake_timeout(self.limits.handshake_timeout)
                            .acceptor(acceptor);
                        server.acceptor(acceptor).serve(make).await
                    }
                }
            }
        };
        let places = self.limits.connections_max;
        let api = serve(self.api, Side::Api, self.tls, places);
        let admin = serve(self.admin, Side::Admin, None, ADMIN_CONNECTIONS_MAX);
        tokio::try_join!(api, admin).map(drop)
    }
}

/// Prepares each connection, and turns it away when there are too many.
#[derive(Clone)]
struct Acceptor {
    permits: Arc<Semaphore>,
    limits: Limits,
}

impl<S: Send + 'static> Accept<TcpStream, S> for Acceptor {
    type Stream = TcpStream;
    type Service = Held<S>;
    type Future = std::future::Ready<io::Result<(TcpStream, Held<S>)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        std::future::ready(self.prepare(&stream).map(|permit| {
            let held = Held {
                service,
                _permit: Arc::new(permit),
            };
            (stream, held)
        }))
    }
}

impl Acceptor {
    fn prepare(&self, stream: &TcpStream) -> io::Result<OwnedSemaphorePermit> {
        let permit = Arc::clone(&self.permits)
            .try_acquire_owned()
            .map_err(|_| io::Error::other("too many connections"))?;
        stream.set_nodelay(true)?;
        // A peer that vanished, or that takes no bytes, is given up after this long.
        #[cfg(target_os = "linux")]
        rustix::net::sockopt::set_tcp_user_timeout(
            stream,
            self.limits.send_timeout.as_millis() as u32,
        )?;
        Ok(permit)
    }
}

/// A connection's service, which holds the connection's place among all.
#[derive(Clone)]
struct Held<S> {
    service: S,
    _permit: Arc<OwnedSemaphorePermit>,
}

impl<S: Service<R>, R> Service<R> for Held<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: R) -> S::Future {
        self.service.call(request)
    }
}
