//! x
fn main() {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).init();
    let path = std::env::args().nth(3).unwrap();
    let config = match outboxd::config::Config::load(std::path::Path::new(&path)) { Ok(c) => c, Err(e) => { eprintln!("{e}"); std::process::exit(78) } };
    tokio::runtime::Runtime::new().unwrap().block_on(outboxd::app::run(config, None)).unwrap();
}
