"""A card in Markdown, from the same card in JSON."""

from __future__ import annotations

from typing import Any

__all__ = ["markdown"]


def markdown(card: dict[str, Any]) -> str:
    """The card that a person reads."""
    scores = card["scores"]
    evidence = card["evidence"]
    artifacts = list(scores)
    lines = [
        f"# {card['name']}",
        "",
        f"{card['summary'][0].upper()}{card['summary'][1:]}. {card['parameters']:,} parameters, "
        f"license {card['license']}.",
        "",
        "```python",
        "from mtl_keras import zoo",
        "",
        f'model = zoo.load("{card["name"]}")',
        "```",
        "",
        "## Data",
        "",
        *(f"- {key}: {value}" for key, value in card["data"].items()),
        "",
        f"## What each file reaches on {card['test_rows']:,} test rows",
        "",
        "| metric | " + " | ".join(artifacts) + " |",
        "|---|" + "---|" * len(artifacts),
    ]
    lines += [
        f"| {name} | " + " | ".join(f"{scores[a][name]:.4f}" for a in artifacts) + " |"
        for name in scores["keras"]
    ]
    seeds = len(card["recipe"]["seeds"])
    lines += [
        "",
        f"## Beside simpler answers (mean ± standard deviation over {seeds} "
        f"seed{'s' if seeds > 1 else ''})",
        "",
        "Trivial: the best constant answer. Single-task: a network a task, same backbone, data, "
        "and budget.",
        "",
        "| metric | trivial | single-task | multi-task |",
        "|---|---|---|---|",
    ]
    for name, multi in evidence["multi_task"].items():
        single = evidence["single_task"][name]
        lines.append(
            f"| {name} | {evidence['trivial'][name]:.4f} | {single['mean']:.4f} ± "
            f"{single['sd']:.4f} | "
            f"{multi['mean']:.4f} ± {multi['sd']:.4f} |"
        )
    delta = evidence["delta_m"]
    recipe = card["recipe"]
    lines += [
        "",
        f"Δm against the single-task networks: **{delta['percent']:+.2f} % ± {delta['sd']:.2f}**; "
        f"median over tasks "
        f"{delta['median']:+.2f} %; {delta['better']} of {len(delta['by_task'])} tasks better "
        f"with every seed, "
        f"{delta['worse']} worse with every seed. Mean over tasks of the relative change of the "
        f"metric that judges each, "
        "above 0 is better (Maninis et al., CVPR 2019); in the sign of Navon et al., ICML 2022, "
        "it is "
        f"{-delta['percent']:+.2f} %.",
        "",
        "| task | judged by | change | sign | baseline |",
        "|---|---|---|---|---|",
    ]
    for task, change in delta["by_task"].items():
        better = "higher" if change["direction"] == "max" else "lower"
        lines.append(
            f"| {task} | {change['metric']} ({better} is better) | {change['percent']:+.2f} % ± "
            f"{change['sd']:.2f} | "
            f"{change['sign']} | {delta['flags'].get(task, 'sound')} |"
        )
    if delta["flags"]:
        sound = (
            "no task is left"
            if delta["sound_percent"] is None
            else f"Δm is {delta['sound_percent']:+.2f} %"
        )
        lines += ["", f"Without tasks whose baseline is noise, {sound}."]
    lines += [
        "",
        "## Recipe",
        "",
        f"{recipe['optimizer']}; learning rate {recipe['learning_rate']}, weight decay "
        f"{recipe['weight_decay']}, batch "
        f"{recipe['batch_size']}, {recipe['epochs']} epochs, balancer `{recipe['balancer']}`, "
        f"loss weights "
        + ", ".join(f"{t['name']} {t['loss_weight']:g}" for t in card["tasks"])
        + f". Seeds {', '.join(map(str, recipe['seeds']))}; the network of seed "
        f"{recipe['shipped_seed']} is shipped (chosen "
        "before training).",
        "",
        "```",
        recipe["command"],
        "```",
        "",
        "## Files",
        "",
        "| file | bytes |",
        "|---|---|",
        *(f"| {name} | {entry['bytes']:,} |" for name, entry in card["files"].items()),
        "",
        f"`{card['quantization']['file']}`: {card['quantization']['why']}",
    ]
    if card["notes"]:
        lines += ["", "## Notes", "", *(f"- {note}" for note in card["notes"])]
    versions = ", ".join(f"{k} {v}" for k, v in card["made_with"].items())
    return "\n".join([*lines, "", f"Made {card['made']} with {versions}.", ""])
