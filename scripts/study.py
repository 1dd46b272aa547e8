"""Measures our figures again: ``python scripts/study.py <name>`` writes ``results/<name>.json``; resumable."""

import argparse
from pathlib import Path

from worldjepa.studies import act_jepa, ad_l_jepa, mc_jepa, mujoco, pusht, seq_jepa, static, variants
from worldjepa.studies.tables import update_tables

FLOORS = {"random_success": 0.05, "still_success": 0.05, "replay_success": 0.97}
DEFAULT = {"scripted_success": 0.65, "human_success": 0.85, "angle_r2": 0.9, "minutes": 20, "peak_memory_gb": 6}


def pusht_default(command: str) -> None:
    pusht.run("pusht", (0, 1, 2), (), FLOORS | DEFAULT, command)


def pusht_long(command: str) -> None:
    targets = {"scripted_success": 0.8, "human_success": 0.95, "angle_r2": 0.9, "minutes": 90}
    pusht.run("pusht_long", (0,), ("+experiment=pusht_long",), FLOORS | targets, command)


def pusht_gpu(command: str) -> None:
    targets = {"scripted_success": 0.9, "human_success": 0.97, "angle_r2": 0.9, "minutes": 60}
    pusht.run("pusht_gpu", (0,), ("+experiment=pusht_gpu",), FLOORS | targets, command)


def imitation(command: str) -> None:
    act_jepa.run(command, steps=4000)


def views(command: str) -> None:
    seq_jepa.run(command, steps=1400)


def motion(command: str) -> None:
    mc_jepa.run(command, steps=2500)


def motion_plan(command: str) -> None:
    mc_jepa.plan(command, steps=600)


def motion_imitate(command: str) -> None:
    mc_jepa.imitate(command, steps=2000)


def scans(command: str) -> None:
    ad_l_jepa.run(command, steps=400, driver_steps=1500, world_steps=500)


STUDIES = {
    "pusht": (pusht_default, "the default job, three seeds from nothing (about an hour on 2 cores)"),
    "pusht_long": (pusht_long, "+experiment=pusht_long, one seed (about 90 minutes on 2 cores)"),
    "pusht_gpu": (pusht_gpu, "+experiment=pusht_gpu, one seed (about an hour on one GPU)"),
    "encoders": (variants.encoders, "convnet, ViT and glimpse under one budget"),
    "objectives": (variants.objectives, "SIGReg, VICReg and EMA, with and without inverse dynamics"),
    "mujoco": (mujoco.run, "experts, goals and return in dm_control, from pixels (hours on 2 cores; resumable)"),
    "act_jepa": (imitation, "policies on human PushT, five kinds, three seeds (hours on 2 cores; resumable)"),
    "seq_jepa": (views, "seq-JEPA and others on views of objects, three seeds (an hour on 2 cores; resumable)"),
    "seq_jepa_pusht": (
        seq_jepa.plan,
        "seq-JEPA plans in PushT, three seeds (over an hour; joins seq_jepa)",
    ),
    "mc_jepa": (motion, "flow and content of moving shapes, five kinds, three seeds (resumable)"),
    "mc_jepa_truth": (mc_jepa.flow_truth, "simulators' true flow, by what it makes of pictures (joins mc_jepa)"),
    "mc_jepa_pusht": (motion_plan, "world models on its encoder or from scratch, three seeds (joins mc_jepa)"),
    "mc_jepa_policies": (motion_imitate, "policies on its encoder or from scratch, three seeds (joins mc_jepa)"),
    "ad_l_jepa": (scans, "LiDAR latents, a detector, and two ways to drive by them, three seeds (resumable)"),
    "static": (
        static.run,
        "every static system against its untrained encoder, five seeds (hours; resumable)",
    ),
}

if __name__ == "__main__":
    names = "\n".join(f"  {name:16s} {about}" for name, (_, about) in STUDIES.items())
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=f"studies:\n{names}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=(*STUDIES, "tables"), metavar="name", help="or 'tables': the README's, anew")
    name = parser.parse_args().name
    if name != "tables":
        STUDIES[name][0](f"python scripts/study.py {name}")
    update_tables(Path("README.md"), Path("results"))
