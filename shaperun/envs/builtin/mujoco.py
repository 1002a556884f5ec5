"""The MuJoCo environments of gymnasium, version 5: robots that run, balance, reach and push.

The parts of their rewards are terms, without the weights that options give them, and their own
rewards are weighted sums of these terms. Controllers are in `mujoco_controllers`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from math import inf
from typing import Any

import numpy as np

from shaperun.envs.base import Array, Environment, Metric, Term, Transition
from shaperun.envs.builtin.mujoco_terms import (
    CONTROL,
    FORWARD,
    GOAL_RADIUS,
    MAX_SQUARED_FORCES,
    POLE_LIMIT,
    SMOOTH,
    TIP_LIMIT,
    TOUCH,
    UPRIGHT,
    UPRIGHT_IN_SPACE,
    Health,
    cheetah_outcome,
    closeness,
    closeness_outcome,
    contact,
    find_tip,
    health_outcome,
    state,
    swimmer_outcome,
    tip_deviation,
)

Names = tuple[str, ...]


def spins(joints: Names) -> Names:
    """Return names of the angular velocities of joints."""
    return tuple(f"{joint}_spin" for joint in joints)


def per_body(bodies: Names, *entries: str) -> Names:
    """Return names of the entries of every body, body by body."""
    return tuple(f"{body}_{entry}" for body in bodies for entry in entries)


def planar(joints: Names) -> Names:
    """Return names of the observations of a robot in the plane of x and z."""
    return ("z", "angle", *joints, "vx", "vz", "spin", *spins(joints))


def spatial(joints: Names) -> Names:
    """Return names of positions and velocities of a robot that moves freely in space."""
    velocities = ("vx", "vy", "vz", "spin_x", "spin_y", "spin_z")
    return ("z", "qw", "qx", "qy", "qz", *joints, *velocities, *spins(joints))


# MuJoCo has torques before forces, and rotations before translations.
FORCES = ("torque_x", "torque_y", "torque_z", "force_x", "force_y", "force_z")
MOTION = ("spin_x", "spin_y", "spin_z", "vx", "vy", "vz")
INERTIA = tuple(f"inertia_{ij}" for ij in ("xx", "yy", "zz", "xy", "xz", "yz"))
MOMENTS = ("moment_x", "moment_y", "moment_z", "mass")

CHEETAH_JOINTS = per_body(("back", "front"), "thigh", "shin", "foot")
HOPPER_JOINTS = ("thigh", "leg", "foot")
ANT_LEGS = ("front_left", "front_right", "back_left", "back_right")
ANT_BODIES = ("torso", *per_body(ANT_LEGS, "hip", "upper", "lower"))
ARM_JOINTS = (
    *("shoulder_pan", "shoulder_lift", "shoulder_roll", "elbow"),
    *("forearm_roll", "wrist_flex", "wrist_roll"),
)
HUMANOID_BODIES = (
    *("torso", "waist", "pelvis"),
    *per_body(("right", "left"), "thigh", "shin", "foot"),
    *per_body(("right", "left"), "upper_arm", "lower_arm"),
)
HUMANOID_JOINTS = (
    *("abdomen_z", "abdomen_y", "abdomen_x"),
    *per_body(("right", "left"), "hip_x", "hip_z", "hip_y", "knee"),
    *per_body(("right", "left"), "shoulder1", "shoulder2", "elbow"),
)


def declare(
    env_id: str,
    observations: Names,
    motors: int,
    terms: Iterable[Term],
    reward: Mapping[str, float],
    options: Iterable[str],
    **fields: Any,
) -> Environment:
    """Declare an environment.

    Args:
        env_id: gymnasium's id.
        observations: names of the entries of an observation.
        motors: number of entries of an action.
        terms: its terms.
        reward: the terms that its own reward consists of, with their default weights.
        options: options that change the reward, besides the robot and the duration of a step.
        fields: other fields of `Environment`.
    """
    by_name = {term.name: term for term in terms}

    def own_reward(transition: Transition) -> Array:
        total = np.zeros(len(transition))
        for name, weight in reward.items():
            # The end of the episode shows it exactly: Hopper also has limits of unobserved values.
            end = name == "healthy"
            total += weight * (~transition.terminated if end else by_name[name](transition))
        return total

    own_reward.__doc__ = f"{' + '.join(f'{w:g} × {name}' for name, w in reward.items())}."
    return Environment(
        id=env_id,
        observations=observations,
        action_size=motors,
        own_reward=own_reward,
        reward_options=frozenset({*options, "xml_file", "frame_skip"}),
        notes=list_notes(env_id, reward),
        before_render=draw_faster,
        requires=("mujoco", 'pip install "shaperun[mujoco]"'),
        reads_info="forward" in reward,
        terms=by_name,
        **({"time_limit": 1000} | fields),
    )


def list_notes(env_id: str, reward: Mapping[str, float]) -> dict[str, str]:
    """Return the notes of an environment by mode."""
    name = env_id.split("-")[0]
    notes = {
        "add": f"{name} is already rewarded for {', '.join(reward)}; added terms may count the "
        "same things twice"
    }
    if "healthy" in reward:
        notes["replace"] = (
            f"replacing {name}'s reward also drops its reward for every healthy step; if all terms "
            "are costs, falling at once is optimal"
        )
    return notes


def follow(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the option of a camera that follows the robot, unless there is another one."""
    others = {"camera_id", "camera_name", "default_camera_config", "xml_file"}
    return {} if options.keys() & others else {"camera_name": "track"}


def draw_faster(env: Any) -> None:
    """Halve the shadows' resolution twice and smooth no edges: frames are scaled down anyway.

    A frame then takes a third of the time where no GPU draws it.
    """
    env.model.vis.quality.shadowsize = 1024
    env.model.vis.quality.offsamples = 0


def moving(timestep: float, frame_skip: int, health: Health | None = None) -> dict[str, Any]:
    """Return what a robot that moves has besides: the distance in m, and a camera that follows it.

    Options may change the duration of a step, and the ranges of a health.
    """

    def metrics(skip: int) -> dict[str, Metric]:
        return {"distance": Metric({"forward": timestep * skip})}

    def adapt(known: Environment, options: Mapping[str, Any]) -> Environment:
        skip = options.get("frame_skip", frame_skip)
        if "xml_file" in options or not isinstance(skip, int):  # which has a time step of its own
            known = replace(known, metrics={})
        else:
            known = replace(known, metrics=metrics(skip))
        return health.adapt(known, options) if health else known

    return {"metrics": metrics(frame_skip), "adapt": adapt, "render_options": follow}


def fixed_length(**bounds: tuple[float, float]) -> dict[str, Any]:
    """Return the bounds of episodes that end at the time limit only."""
    return {"episode_bounds": lambda steps: {"length": (float(steps), float(steps)), **bounds}}


FORWARD_OPTIONS = ("forward_reward_weight", "ctrl_cost_weight")
HEALTH_OPTIONS = ("healthy_reward", "healthy_z_range", "terminate_when_unhealthy")

half_cheetah = declare(
    "HalfCheetah-v5",
    planar(CHEETAH_JOINTS),
    6,
    (FORWARD, CONTROL, SMOOTH, UPRIGHT),
    {"forward": 1.0, "control": 0.1},
    FORWARD_OPTIONS,
    outcome=cheetah_outcome,
    outcomes={"ran": True, "stayed": False, "flipped": False},
    solved=4800.0,
    **moving(0.01, 5),
    **fixed_length(),
)

HOPPER = Health(0.7, tilt=0.2)
hopper = declare(
    "Hopper-v5",
    planar(HOPPER_JOINTS),
    3,
    (FORWARD, CONTROL, SMOOTH, UPRIGHT, HOPPER.term()),
    {"forward": 1.0, "control": 0.001, "healthy": 1.0},
    (*FORWARD_OPTIONS, *HEALTH_OPTIONS, "healthy_angle_range", "healthy_state_range"),
    outcome=HOPPER.outcome(),
    outcomes={"survived": True, "fell": False},
    solved=3800.0,
    **moving(0.002, 4, HOPPER),
)

WALKER = Health(0.8, 2.0, tilt=1.0)
walker2d = declare(
    "Walker2d-v5",
    planar((*HOPPER_JOINTS, *per_body(("left",), *HOPPER_JOINTS))),
    6,
    (FORWARD, CONTROL, SMOOTH, UPRIGHT, WALKER.term()),
    {"forward": 1.0, "control": 0.001, "healthy": 1.0},
    (*FORWARD_OPTIONS, *HEALTH_OPTIONS, "healthy_angle_range"),
    outcome=WALKER.outcome(),
    outcomes={"survived": True, "fell": False},
    **moving(0.002, 4, WALKER),
)

# It is too high as often as too low.
ANT = Health(0.2, 1.0, bad="unhealthy")
ant = declare(
    "Ant-v5",
    (*spatial(per_body(ANT_LEGS, "hip", "ankle")), *per_body(ANT_BODIES, *FORCES)),
    8,
    (
        *(FORWARD, CONTROL, SMOOTH, UPRIGHT_IN_SPACE, ANT.term()),
        contact(78, inf, "−Σ force², over contact forces and torques, each clipped to ±1."),
    ),
    {"forward": 1.0, "control": 0.5, "contact": 0.0005, "healthy": 1.0},
    (*FORWARD_OPTIONS, *HEALTH_OPTIONS, "contact_cost_weight", "contact_force_range", "main_body"),
    outcome=ANT.outcome(),
    outcomes={"survived": True, "unhealthy": False},
    solved=6000.0,
    **moving(0.01, 5, ANT),
)

HUMANOID = Health(1.0, 2.0)
humanoid = declare(
    "Humanoid-v5",
    (
        *spatial(HUMANOID_JOINTS),
        *per_body(HUMANOID_BODIES, *INERTIA, *MOMENTS),
        *per_body(HUMANOID_BODIES, *MOTION),
        *per_body(HUMANOID_JOINTS, "torque"),
        *per_body(HUMANOID_BODIES, *FORCES),
    ),
    17,
    (
        *(FORWARD, CONTROL, SMOOTH, UPRIGHT_IN_SPACE, HUMANOID.term()),
        contact(
            78, MAX_SQUARED_FORCES, "−Σ force², over contact forces and torques; −2e7 or more."
        ),
    ),
    {"forward": 1.25, "control": 0.1, "contact": 5e-7, "healthy": 5.0},
    (*FORWARD_OPTIONS, *HEALTH_OPTIONS, "contact_cost_weight", "contact_cost_range"),
    outcome=HUMANOID.outcome(),
    outcomes={"survived": True, "fell": False},
    **moving(0.003, 5, HUMANOID),
)

swimmer = declare(
    "Swimmer-v5",
    ("angle", "rotor1", "rotor2", "vx", "vy", "spin", "rotor1_spin", "rotor2_spin"),
    2,
    (
        *(FORWARD, CONTROL, SMOOTH),
        state(
            "heading", "cos(angle), from 1 (forward) to −1 (backward).", lambda o: np.cos(o[:, 0])
        ),
    ),
    {"forward": 1.0, "control": 0.0001},
    FORWARD_OPTIONS,
    outcome=swimmer_outcome,
    outcomes={"swam": True, "stayed": False},
    solved=360.0,
    **moving(0.01, 4),
    **fixed_length(),
)

REACH = closeness("distance", "−√(dx² + dy²), from fingertip to target.", lambda obs: obs[:, 8:10])
reacher = declare(
    "Reacher-v5",
    (
        *("cos_shoulder", "cos_elbow", "sin_shoulder", "sin_elbow", "target_x", "target_y"),
        *("shoulder_spin", "elbow_spin", "dx", "dy"),
    ),
    2,
    (REACH, CONTROL, SMOOTH),
    {"distance": 1.0, "control": 1.0},
    ("reward_dist_weight", "reward_control_weight"),
    outcome=closeness_outcome("reached", "missed", REACH, TOUCH),
    outcomes={"reached": True, "missed": False},
    time_limit=50,
    solved=-3.75,
    **fixed_length(),
)

PUSH = closeness(
    "distance", "−distance from object to goal.", lambda obs: obs[:, 17:20] - obs[:, 20:23]
)
NEAR = closeness(
    "near", "−distance from fingertips to object.", lambda obs: obs[:, 17:20] - obs[:, 14:17]
)
ON_GOAL = closeness("on_goal", "", lambda obs: obs[:, 17:19] - obs[:, 20:22])
pusher = declare(
    "Pusher-v5",
    (*ARM_JOINTS, *spins(ARM_JOINTS), *per_body(("tip", "object", "goal"), "x", "y", "z")),
    7,
    (PUSH, NEAR, CONTROL, SMOOTH),
    {"distance": 1.0, "near": 0.5, "control": 0.1},
    ("reward_dist_weight", "reward_near_weight", "reward_control_weight"),
    outcome=closeness_outcome("pushed", "missed", ON_GOAL, GOAL_RADIUS),
    outcomes={"pushed": True, "missed": False},
    time_limit=100,
    solved=0.0,
    **fixed_length(),
)

POLE_HEALTHY = state(
    "healthy",
    "1 if |angle| ≤ 0.2, else 0.",
    lambda obs: (np.abs(obs[:, 1]) <= POLE_LIMIT).astype(np.float64),
)
inverted_pendulum = declare(
    "InvertedPendulum-v5",
    ("x", "angle", "vx", "spin"),
    1,
    (
        *(POLE_HEALTHY, CONTROL, SMOOTH),
        state(
            "upright",
            "1 − |angle| / 0.2, from 1 (upright) to 0 (the episode ends).",
            lambda obs: 1.0 - np.abs(obs[:, 1]) / POLE_LIMIT,
        ),
        state(
            "centered", "−|x|, the distance of the cart to the middle.", lambda o: -np.abs(o[:, 0])
        ),
    ),
    {"healthy": 1.0},
    (),
    outcome=health_outcome("balanced", "fell", POLE_HEALTHY),
    outcomes={"balanced": True, "fell": False},
    episode_bounds=lambda steps: {"return": (0.0, float(steps))},
    solved=950.0,
)

TIP_HEALTHY = state(
    "healthy",
    "1 if the tip of the second pole is above 1 m, else 0.",
    lambda obs: (find_tip(obs)[1] > TIP_LIMIT).astype(np.float64),
)
inverted_double_pendulum = declare(
    "InvertedDoublePendulum-v5",
    (
        *("x", "sin_angle1", "sin_angle2", "cos_angle1", "cos_angle2"),
        *("vx", "spin1", "spin2", "force"),
    ),
    1,
    (
        *(TIP_HEALTHY, CONTROL, SMOOTH),
        state(
            "distance", "−(0.01 x² + (height − 2)²) of the tip of the second pole.", tip_deviation
        ),
        state(
            "velocity",
            "−(0.001 spin1² + 0.005 spin2²), with spins clipped to ±10.",
            lambda obs: -(0.001 * obs[:, 6] ** 2 + 0.005 * obs[:, 7] ** 2),
        ),
    ),
    {"healthy": 10.0, "distance": 1.0, "velocity": 1.0},
    ("healthy_reward",),
    outcome=health_outcome("balanced", "fell", TIP_HEALTHY),
    outcomes={"balanced": True, "fell": False},
    solved=9100.0,
)
