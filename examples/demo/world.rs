//! What the demo runs, as its operator: the example's whole deployment, with outboxd in the middle of it, and what can be broken in
//! it. Never more than for the length of the demo.

use std::{env, error::Error, path::PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    screen::Screen,
    support::{
        deployment::{Deployment, Programs, Wishes},
        process::Port,
    },
};

/// Anything that keeps the demo from going on.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// Which of the two sagas.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Style {
    Choreography,
    Orchestration,
}

/// An order as its customer means it.
pub(crate) struct Wanted {
    pub(crate) style: Style,
    pub(crate) customer: String,
    pub(crate) restaurant: &'static str,
    /// In cents.
    pub(crate) total: i64,
}

/// What was made of it.
pub(crate) struct Placed {
    pub(crate) saga_type: String,
    pub(crate) saga_id: String,
}

/// What is broken on purpose.
#[derive(Clone, Copy, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Switches {
    pub(crate) card_refused: bool,
    pub(crate) kitchen_down: bool,
    pub(crate) duplicate_delivery: bool,
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Switch {
    CardRefused,
    KitchenDown,
    DuplicateDelivery,
}

impl Switch {
    /// The one with this name in `Switches`.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "card-refused" => Some(Self::CardRefused),
            "kitchen-down" => Some(Self::KitchenDown),
            "duplicate-delivery" => Some(Self::DuplicateDelivery),
            _ => None,
        }
    }
}

/// All that runs beside this process; dropping it stops it.
pub(crate) struct World {
    pub(crate) deployment: Deployment,
    pub(crate) switches: Switches,
    pub(crate) page: Port,
}

impl World {
    /// Starts everything, and tells how long each took; returns when orders can be placed. `only` is the half of outboxd that is
    /// to run; `None`: both.
    pub(crate) fn start(screen: &Screen, only: Option<&str>) -> Result<Self, Failure> {
        let page = Port::claim();
        // The page comes from another origin than outboxd's, and has to be let in.
        let origin = format!(
            "allowed_origins = [\"http://127.0.0.1:{}\"]\n",
            page.number()
        );
        let arguments: Vec<_> = only.iter().flat_map(|half| ["--only", half]).collect();
        let wishes = Wishes {
            config: &origin,
            arguments: &arguments,
            ..Wishes::default()
        };
        let told = |what: &str, detail: &str, took| {
            // Who cannot be told does not mind.
            let _ = screen.started(what, detail, took);
        };
        Ok(Self {
            deployment: Deployment::start(programs()?, &wishes, &told),
            switches: Switches::default(),
            page,
        })
    }

    /// Places an order, as its customer's program does.
    pub(crate) fn place(&self, order: &str, wanted: &Wanted) -> Result<Placed, Failure> {
        let request = json!({
            "style": wanted.style,
            "orderId": order,
            "consumerId": wanted.customer,
            "restaurantId": wanted.restaurant,
            "items": [{ "name": "the day's menu", "quantity": 1, "price": wanted.total }],
        });
        let (status, said) = self.deployment.ask("POST", "/orders", &request);
        let text = |name| said.get(name).and_then(Value::as_str).map(str::to_owned);
        match (text("sagaType"), text("sagaId")) {
            (Some(saga_type), Some(saga_id)) => Ok(Placed { saga_type, saga_id }),
            _ => Err(format!("an order was answered with {status}: {said}").into()),
        }
    }

    /// Turns a switch.
    pub(crate) fn switch(&mut self, switch: Switch, on: bool) {
        let (deployment, switches) = (&self.deployment, &mut self.switches);
        let part = match switch {
            Switch::CardRefused => {
                deployment.mood(&json!({ "refuses": on }));
                switches.card_refused = on;
                return;
            }
            Switch::KitchenDown => {
                switches.kitchen_down = on;
                ("kitchen", !on)
            }
            Switch::DuplicateDelivery => {
                switches.duplicate_delivery = on;
                ("twice", on)
            }
        };
        match part {
            (part, true) => deployment.begin(part),
            (part, false) => deployment.kill(part),
        }
    }

    /// Kills outboxd in the middle of whatever it does, and starts it again, as systemd would.
    pub(crate) fn kill_outboxd(&self) {
        self.deployment.daemon.kill();
        self.deployment.daemon.start_again();
    }

    /// Fails when something ended that should run, and says what its last words were. A service that ended is started again.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        self.deployment.tend();
        let daemon = &self.deployment.daemon;
        if daemon.pid().is_none() {
            let (status, log) = (daemon.wait(), daemon.log());
            let what = format!("outboxd ended by itself with {status}; its log ends:");
            return Err(format!("{what}\n{}", tail(&log)).into());
        }
        if self.deployment.kafka.pid().is_none() {
            return Err("Kafka ended by itself".into());
        }
        if self.deployment.postgres.pid().is_none() {
            let log = self.deployment.postgres.log_tail();
            return Err(format!("PostgreSQL ended by itself; its log ends:\n{log}").into());
        }
        Ok(())
    }

    /// Ends outboxd in order: what it has begun to publish is published when this returns.
    pub(crate) fn drain(&self) -> Result<(), Failure> {
        let daemon = &self.deployment.daemon;
        // It may have been killed a moment ago, and cannot be asked before it is back.
        daemon.wait_ready();
        match daemon.terminate() {
            0 => Ok(()),
            status => {
                let what = format!("outboxd drained with {status}; its log ends:");
                Err(format!("{what}\n{}", tail(&daemon.log())).into())
            }
        }
    }
}

/// The programs, which cargo builds into this one's folder and the one above it.
fn programs() -> Result<Programs, Failure> {
    let own = env::current_exe()?;
    let examples = own.parent().map(PathBuf::from).unwrap_or_default();
    let outboxd = examples.parent().map(|it| it.join("outboxd"));
    let programs = Programs {
        outboxd: outboxd.unwrap_or_default(),
        example: examples.join("create_order"),
    };
    if programs.outboxd.exists() && programs.example.exists() {
        return Ok(programs);
    }
    Err("outboxd or the example is not built yet; `make demo` does that first".into())
}

fn tail(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    let last = lines.get(lines.len().saturating_sub(15)..);
    last.unwrap_or_default().join("\n")
}
