"""What is read from machine code; no device is needed."""

from __future__ import annotations

from machine_code import Loop, product_loops

_ADDS = "        /*0010*/                   FFMA R1, R2, R3, R1 ;\n"


def test_loops_over_the_depth_of_a_product() -> None:
    code = (
        ".L_x_9:\n"  # the steps: not innermost
        "        /*0000*/                   MOV R1, R2 ;\n"
        ".L_x_1:\n"
        "        /*0000*/                   LDS.128 R4, [R1] ;\n"
        + 8
        * _ADDS
        + "        /*0090*/              @P0 BRA `(.L_x_1) ;\n"
        ".L_x_2:\n"
        "        /*0000*/             @!PT LDS RZ, [RZ] ;\n"
        "        /*0000*/                   LDG.E R4, desc[UR4][R2.64] ;\n"
        + 8
        * _ADDS
        + "        /*00a0*/             @!P2 BRA `(.L_x_2) ;\n"
        ".L_x_3:\n"  # too few multiply-adds
        "" + 7 * _ADDS + "        /*00a0*/             @!P2 BRA `(.L_x_3) ;\n"
        "        /*00b0*/              @P1 BRA `(.L_x_9) ;\n"
        "        /*00c0*/                   BRA `(.L_x_4) ;\n"  # forwards
        ".L_x_4:\n"
        "        /*00d0*/                   EXIT ;\n"
    )
    assert product_loops(code) == [Loop(10, 8, "shared"), Loop(11, 8, "global")]
    assert Loop(10, 8, "shared").ratio == 1.25
